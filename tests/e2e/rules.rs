//! Rules give connections different policies: each thing that a rule can ask,
//! at both ends, with IPv4 and IPv6, and when rules change.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path as FilePath;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use mptcp_lab::traffic::{ANY, Behaviour, Bulk, Server, Transfer};
use mptcp_lab::{Agent, Family, Host, Lab, Link, Path, TwoHosts, wait};
use serde_json::{Value, json};
use socket2::{Domain, Protocol, Socket, Type};

use crate::redundant_support::{ask, sent, wait_for_proven};
use crate::support::{capped, require_agent, scrape_until, wait_for_shares, weighted};
use crate::{SETTLE, SOON, VERY_LONG};

/// Replaces the rules of a running agent, and returns what it answers.
pub(crate) fn set_rules(agent: &Agent, rules: &Value) -> Result<Value> {
    let file = tempfile::Builder::new().suffix(".json").tempfile()?;
    std::fs::write(file.path(), rules.to_string())?;
    let path = file.path().display().to_string();
    let answer = agent.tell(&["rules", "set", &path, "--json"])?;
    serde_json::from_str(&answer).with_context(|| answer.clone())
}

/// Returns the rules of a running agent, and what they have counted.
pub(crate) fn shown(agent: &Agent) -> Result<Value> {
    let answer = agent.tell(&["rules", "--json"])?;
    serde_json::from_str(&answer).with_context(|| answer.clone())
}

/// Returns the rule and the policy of the connection between these ports, as this
/// host has them; `None` while it is not known.
fn chosen(agent: &Agent, local: u16, remote: u16) -> Result<Option<(Option<String>, String)>> {
    let answer: Value = serde_json::from_str(&agent.tell(&["connections", "--json"])?)?;
    let all = answer["connections"].as_array().context("no connections")?;
    let ends = |one: &Value, end: &str, port: u16| {
        let text = one["subflows"][0][end].as_str().unwrap_or_default();
        text.ends_with(&format!(":{port}"))
    };
    let found = all
        .iter()
        .find(|one| ends(one, "local", local) && ends(one, "remote", remote));
    let text = |value: &Value| value.as_str().map(str::to_owned);
    Ok(found.map(|one| (text(&one["rule"]), text(&one["policy"]).unwrap_or_default())))
}

/// Fails unless the connection between these ports gets this rule.
#[track_caller]
fn expect_rule(agent: &Agent, local: u16, remote: u16, rule: Option<&str>) -> Result<()> {
    let found = wait::try_until("the connection", SOON, || {
        match chosen(agent, local, remote) {
            Ok(Some(found)) => Ok(found),
            other => Err(format!("{other:?}")),
        }
    })?;
    ensure!(
        found.0.as_deref() == rule,
        "{rule:?} is expected: {found:?}"
    );
    Ok(())
}

fn two_links(lab: &Lab, family: Family) -> Result<TwoHosts> {
    lab.two_hosts(["p1", "p2"].map(|name| Path::new(name).family(family).rate_mbit(40.0)))
}

/// Connects an MPTCP socket that `prepare` has changed, as this user. The work is
/// done on a thread of its own.
fn connect_as(
    host: &Host,
    server: SocketAddr,
    uid: u32,
    prepare: impl FnOnce(&Socket) -> Result<()> + Send,
) -> Result<Socket> {
    host.in_ns(|| {
        become_user(uid)?;
        let socket = Socket::new(
            Domain::for_address(server),
            Type::STREAM,
            Some(Protocol::MPTCP),
        )?;
        prepare(&socket)?;
        socket.connect(&server.into())?;
        Ok(socket)
    })
}

/// Connects an MPTCP socket that `prepare` has changed.
fn connect(
    host: &Host,
    server: SocketAddr,
    prepare: impl FnOnce(&Socket) -> Result<()> + Send,
) -> Result<Socket> {
    connect_as(host, server, 0, prepare)
}

fn port_of(socket: &Socket) -> Result<u16> {
    let address = socket.local_addr()?.as_socket();
    Ok(address.context("no address")?.port())
}

/// Makes the calling thread act as another user.
fn become_user(uid: u32) -> Result<()> {
    // The C library would change all threads, so this is the system call itself.
    // SAFETY: it changes credentials of this thread only.
    let done = unsafe { libc::syscall(libc::SYS_setresuid, -1, uid, -1) };
    ensure!(done == 0, "setresuid: {}", std::io::Error::last_os_error());
    Ok(())
}

fn bind(socket: &Socket, to: IpAddr, port: u16) -> Result<()> {
    Ok(socket.bind(&SocketAddr::new(to, port).into())?)
}

fn each_criterion(family: Family) -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_links(&lab, family)?;
    let (near, far) = (net.links[0].client_addr, net.links[0].server_addr);
    let sinks = [
        Server::spawn(&net.server, ANY, Behaviour::Sink)?,
        Server::spawn(&net.server, ANY, Behaviour::Sink)?,
    ];
    let observe = json!({"name": "default"});
    let client = Agent::start(&net.client, &binary, &["--policy", "default"])?;
    set_rules(
        &client,
        &json!({
            "policies": {"observe": observe},
            "rules": [
                {"name": "server", "policy": "observe", "side": "server"},
                {"name": "uid", "policy": "observe", "uid": ["4242-4243"]},
                {"name": "mark", "policy": "observe", "fwmark": "0x10/0xf0"},
                {"name": "dscp", "policy": "observe", "dscp": "ef"},
                {"name": "congestion", "policy": "observe", "congestion": "reno"},
                {"name": "lport", "policy": "observe", "lport": "7000-7009"},
                {"name": "dport", "policy": "observe", "dport": sinks[1].port()},
                {"name": "src", "policy": "observe", "src": net.links[1].client_addr.to_string()},
                {"name": "dst", "policy": "observe", "side": "client",
                 "dst": ["192.0.2.1", "2001:db8::/32", network(near)]},
            ],
        }),
    )?;
    let server = Agent::start(&net.server, &binary, &["--policy", "default"])?;
    set_rules(
        &server,
        &json!({
            "policies": {"observe": observe},
            "rules": [
                {"name": "client", "policy": "observe", "side": "client"},
                {"name": "lport", "policy": "observe", "lport": sinks[1].port()},
                {"name": "dst", "policy": "observe", "dst": near.to_string(),
                 "src": far.to_string(), "side": "server"},
            ],
        }),
    )?;
    let (to, other) = (sinks[0].at(far), sinks[1].at(far));
    let case = |to: SocketAddr, rule: &str, prepare: fn(&Socket) -> Result<()>| -> Result<Socket> {
        let uid = if rule == "uid" { 4243 } else { 0 };
        let socket = connect_as(&net.client, to, uid, prepare)?;
        let port = port_of(&socket)?;
        expect_rule(&client, port, to.port(), Some(rule)).context(rule.to_owned())?;
        let rule = if to == other { "lport" } else { "dst" };
        expect_rule(&server, to.port(), port, Some(rule)).context("at the server")?;
        Ok(socket)
    };
    let nothing: fn(&Socket) -> Result<()> = |_| Ok(());
    let mut open = vec![
        case(to, "uid", nothing)?,
        case(to, "mark", |socket| Ok(socket.set_mark(0x11f)?))?,
        case(to, "congestion", |socket| {
            Ok(socket.set_tcp_congestion(b"reno")?)
        })?,
        case(other, "dport", nothing)?,
        case(to, "dst", nothing)?,
    ];
    if far.is_ipv4() {
        // MPTCP sockets take no traffic class of IPv6.
        open.push(case(to, "dscp", |socket| Ok(socket.set_tos_v4(46 << 2)?))?);
    }
    let bound = connect(&net.client, to, |socket| bind(socket, near, 7003))?;
    expect_rule(&client, port_of(&bound)?, to.port(), Some("lport"))?;
    let from = net.links[1].client_addr;
    let second = sinks[0].at(net.links[1].server_addr);
    let other_path = connect(&net.client, second, |socket| bind(socket, from, 0))?;
    expect_rule(&client, port_of(&other_path)?, to.port(), Some("src"))?;
    // From the server's end the address is another than the rule asks for.
    expect_rule(&server, to.port(), port_of(&other_path)?, None)?;

    let view = shown(&client)?;
    let rules = view["rules"].as_array().context("no rules")?;
    let opened = |name: &str| {
        let rule = rules.iter().find(|rule| rule["rule"]["name"] == name);
        rule.map(|rule| rule["connections_opened"].clone())
    };
    assert_eq!(opened("uid"), Some(1.into()));
    assert_eq!(opened("server"), Some(0.into()));
    let metrics = client.scrape()?;
    let connections = |policy| metrics.value("mptcp_policy_connections", &[("policy", policy)]);
    assert_eq!(connections("default"), Some(0.0));
    assert_eq!(connections("observe"), Some(open.len() as f64 + 2.0));
    drop(open);
    client.stop()?;
    server.stop()
}

/// Returns the network of a link's end.
fn network(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => format!("{}/24", Ipv4Addr::from_bits(v4.to_bits() & !0xff)),
        IpAddr::V6(v6) => format!("{}/64", Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
    }
}

#[test]
fn each_criterion_finds_its_connections_with_ipv4() -> Result<()> {
    each_criterion(Family::V4)
}

#[test]
fn each_criterion_finds_its_connections_with_ipv6() -> Result<()> {
    each_criterion(Family::V6)
}

pub(crate) fn upload(host: &Host, server: &Server, links: &[Link]) -> Result<Transfer> {
    let bulk = Bulk::upload_for(VERY_LONG);
    let transfer = bulk.start(host, server.at(links[0].server_addr))?;
    transfer.wait_for_subflows(links.len(), SOON)?;
    Ok(transfer)
}

#[test]
fn a_change_of_the_rules_holds_for_open_connections() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_links(&lab, Family::V4)?;
    let agent = Agent::start(&net.client, &binary, &weighted(&["p1=3", "p2=1"]))?;
    let sink = Server::spawn(&net.server, ANY, Behaviour::Sink)?;
    let transfer = upload(&net.client, &sink, &net.links)?;
    wait_for_shares(&transfer, &net.links, &[3, 1])?;
    let mut rules = json!({
        "policies": {"other": {"name": "weighted", "weights": ["p1=1", "p2=3"]},
                     "free": {"name": "default"}},
        "rules": [{"policy": "other", "dport": sink.port()}],
    });
    let view = set_rules(&agent, &rules)?;
    // The answer comes once the rules hold for every open connection.
    assert_eq!(view["rules"][0]["connections"], 1);
    wait_for_shares(&transfer, &net.links, &[1, 3])?;

    rules["rules"][0]["policy"] = "free".into();
    let start = Instant::now();
    set_rules(&agent, &rules)?;
    let took = start.elapsed();
    wait::try_until("no caps", SOON, || match transfer.subflows() {
        Ok(subflows) if !capped(&subflows) => Ok(()),
        other => Err(format!("{other:?}")),
    })?;
    eprintln!(
        "rules set in {took:?}, caps lifted within {:?}",
        start.elapsed()
    );
    let view = shown(&agent)?;
    assert_eq!(view["policies"][1]["name"], "free");
    assert_eq!(view["policies"][1]["connections"], 1);

    set_rules(&agent, &json!({}))?;
    wait_for_shares(&transfer, &net.links, &[3, 1])?;
    assert_eq!(shown(&agent)?["unmatched"]["connections"], 1);
    transfer.stop()?;
    agent.stop()
}

#[test]
fn rules_that_are_refused_harm_nothing() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_links(&lab, Family::V4)?;
    let agent = Agent::start(&net.client, &binary, &weighted(&["p1=3", "p2=1"]))?;
    let good = json!({
        "policies": {"other": {"name": "weighted", "weights": ["p1=1", "p2=3"]}},
        "rules": [{"policy": "other", "dport": 9}],
    });
    set_rules(&agent, &good)?;
    let before = shown(&agent)?;
    for (bad, expected) in [
        (
            json!({"rules": [{"policy": "nobody"}]}),
            "there is no policy `nobody`",
        ),
        (
            json!({"rules": [{"policy": "default", "dport": "x"}]}),
            "rule 1: dport: `x`",
        ),
        (json!({"rules": 1}), "invalid type"),
        (
            json!({"rules": [{"policy": "default", "prot": 6}]}),
            "unknown field `prot`",
        ),
        (
            json!({"policies": {"p": {"name": "weighted", "weights": ["x"]}}}),
            "policy `p`",
        ),
        (
            json!({"policies": {"p": {"name": "redundant", "redundant_key": "/nonexistent"}}}),
            "/nonexistent",
        ),
    ] {
        let said = set_rules(&agent, &bad)
            .expect_err("it is refused")
            .to_string();
        assert!(said.contains(expected), "{said}");
    }
    assert_eq!(shown(&agent)?, before);
    agent.stop()
}

/// Requests are copied, beside a weighted transfer on the same paths. The rule is
/// about the requests; the transfer has the default policy.
#[test]
fn thin_requests_are_copied_beside_a_weighted_transfer() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_links(&lab, Family::V4)?;
    let echo = Server::spawn(&net.server, ANY, Behaviour::Echo)?;
    let sink = Server::spawn(&net.server, ANY, Behaviour::Sink)?;
    let args = weighted(&["p1=3", "p2=1"]);
    let start = |host: &Host, binary: &FilePath, port: &str| -> Result<Agent> {
        let agent = Agent::start(host, binary, &args)?;
        let rules = json!({
            "policies": {"fast": {"name": "redundant"}},
            "rules": [{"name": "requests", "policy": "fast", port: echo.port()}],
        });
        set_rules(&agent, &rules)?;
        Ok(agent)
    };
    let agents = [
        start(&net.client, &binary, "dport")?,
        start(&net.server, &binary, "lport")?,
    ];
    let bulk = Bulk::upload_for(VERY_LONG).rate_mbit(20.0);
    let transfer = bulk.start(&net.client, sink.at(net.server_addr()))?;
    transfer.wait_for_subflows(2, SOON)?;
    let exchange = ask(&net.client, &echo, &net.links)?;
    for agent in &agents {
        wait_for_proven(agent, 2)?;
    }
    wait_for_shares(&transfer, &net.links, &[3, 1])?;
    scrape_until(&agents[0], "copies", |metrics| sent(metrics) > 50.0)?;
    // Only the requests were copied, not the megabytes of the transfer.
    let metrics = agents[0].scrape()?;
    let copied = metrics.sum("mptcp_redundant_copies_sent_bytes_total", &[]);
    assert!(copied < 0.2 * transfer.bytes() as f64, "{copied}");

    // Without the rule, copies end, though the connection stays.
    for agent in &agents {
        set_rules(agent, &json!({}))?;
    }
    let ended = agents[0].scrape()?;
    assert_eq!(ended.sum("mptcp_redundant_peers", &[]), 0.0);
    let responses = exchange.responses();
    exchange.wait_for_responses(responses + 20, SETTLE)?;
    exchange.stop()?;
    transfer.stop()?;
    for agent in agents {
        agent.stop()?;
    }
    Ok(())
}

/// The connection of the requests is open already when a rule gives it the policy
/// that copies, and takes it away again while another one is still copied.
#[test]
fn an_open_connection_is_copied_from_the_change_of_the_rules_on() -> Result<()> {
    const QUIET: Duration = Duration::from_millis(700);
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_links(&lab, Family::V4)?;
    let echoes = [
        Server::spawn(&net.server, ANY, Behaviour::Echo)?,
        Server::spawn(&net.server, ANY, Behaviour::Echo)?,
    ];
    let agents = [
        Agent::start(&net.client, &binary, &weighted(&["p1=3", "p2=1"]))?,
        Agent::start(&net.server, &binary, &weighted(&["p1=3", "p2=1"]))?,
    ];
    let exchange = ask(&net.client, &echoes[0], &net.links)?;
    let copy = |ports: &[u16]| -> Result<()> {
        for (agent, key) in agents.iter().zip(["dport", "lport"]) {
            let rules = json!({
                "policies": {"fast": {"name": "redundant"}},
                "rules": [{"policy": "fast", key: ports}],
            });
            set_rules(agent, &rules)?;
        }
        Ok(())
    };
    copy(&[echoes[0].port()])?;
    scrape_until(&agents[0], "copies", |metrics| sent(metrics) > 20.0)?;
    // The policy goes on for others, so the programs stay.
    copy(&[echoes[1].port()])?;
    let mut last = (-1.0, Instant::now());
    wait::try_until("no more copies", SETTLE, || {
        let now = agents[0].scrape().map_or(-1.0, |metrics| sent(&metrics));
        if now != last.0 {
            last = (now, Instant::now());
        }
        if last.1.elapsed() >= QUIET {
            Ok(())
        } else {
            Err(now)
        }
    })?;
    let (before, responses) = (sent(&agents[0].scrape()?), exchange.responses());
    exchange.wait_for_responses(responses + 50, SETTLE)?;
    assert_eq!(sent(&agents[0].scrape()?), before);
    copy(&[echoes[0].port(), echoes[1].port()])?;
    scrape_until(&agents[0], "copies again", |metrics| {
        sent(metrics) > before + 20.0
    })?;
    exchange.stop()?;
    for agent in agents {
        agent.stop()?;
    }
    Ok(())
}

/// The configuration file has rules; a reload replaces them, and a wrong one
/// changes nothing.
#[test]
fn rules_of_the_configuration_file_are_applied() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_links(&lab, Family::V4)?;
    let sink = Server::spawn(&net.server, ANY, Behaviour::Sink)?;
    let file = tempfile::Builder::new().suffix(".toml").tempfile()?;
    let write = |policy: &str, dport: &str| -> Result<()> {
        let text = format!(
            "[path.one]\ndevice = \"p1\"\n[path.two]\ndevice = \"p2\"\n\
             [policy.default]\npolicy = \"weighted\"\nweights = {{ one = 3, two = 1 }}\n\
             [policy.other]\npolicy = \"weighted\"\nweights = {{ one = 1, two = 3 }}\n\
             [[rule]]\nname = \"sink\"\npolicy = \"{policy}\"\ndport = {dport}\n"
        );
        Ok(std::fs::write(file.path(), text)?)
    };
    let port = sink.port().to_string();
    write("other", &port)?;
    let path = file.path().display().to_string();
    let agent = Agent::start(&net.client, &binary, &["--config", &path])?;
    let transfer = upload(&net.client, &sink, &net.links)?;
    wait_for_shares(&transfer, &net.links, &[1, 3])?;
    write("other", "70000")?;
    let said = agent
        .tell(&["reload"])
        .expect_err("it is wrong")
        .to_string();
    assert!(
        said.contains(":11:1: rule 1: dport: `70000` is neither"),
        "{said}"
    );
    assert_eq!(shown(&agent)?["rules"][0]["connections"], 1);
    write("default", &port)?;
    agent.tell(&["reload"])?;
    wait_for_shares(&transfer, &net.links, &[3, 1])?;
    transfer.stop()?;
    agent.stop()
}

#[test]
fn rules_test_says_why() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let host = lab.host("alone")?;
    let agent = Agent::start(&host, &binary, &["--policy", "default"])?;
    let rules = json!({
        "policies": {"bulk": {"name": "weighted", "weights": ["eth0=3"]}},
        "rules": [
            {"name": "backup", "policy": "bulk", "cgroup": "/backup.slice", "dport": 873},
            {"policy": "bulk", "dst": "192.0.2.0/24"},
        ],
    });
    set_rules(&agent, &rules)?;
    let said = agent.tell(&["rules", "test", "--dst", "192.0.2.1", "--dport", "443"])?;
    assert_eq!(
        said,
        "rule 1 (backup) does not match: dport is 443, not 873; cgroup is not known, and should \
         be /backup.slice\nrule 2 matches: policy bulk\n"
    );
    let said = agent.tell(&["rules", "test", "--dport", "443", "--json"])?;
    let said: Value = serde_json::from_str(&said)?;
    assert_eq!(said["policy"], "default");
    assert_eq!(
        said["passed_over"][1]["reasons"][0],
        "dst is not known, and should be 192.0.2.0/24"
    );
    agent.stop()
}
