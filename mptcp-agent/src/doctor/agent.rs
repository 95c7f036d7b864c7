//! Checks the agent that runs, by what it says of itself.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use mptcp_api::listen::Listen;
use mptcp_api::schema::{Agent, Status};

use super::finding::{Faults, Finding, Verdict, ok, problem, unknown, warning};
use super::sight::Sight;
use crate::client::NoAnswer;
use crate::host::sysctl::quoted;

/// Runs the checks.
pub fn checks(sight: &Sight) -> Vec<Finding> {
    const NAMES: [&str; 4] = [
        "agent-hooks",
        "agent-outlived",
        "agent-losses",
        "metrics-address",
    ];
    let mut findings = vec![runs(&sight.agent, sight.control.as_deref())];
    match &sight.agent {
        Ok(None) => findings.extend(NAMES.map(|name| ok(name, "no agent runs"))),
        Err(_) => findings.extend(NAMES.map(|name| unknown(name, "the agent did not answer"))),
        Ok(Some(status)) => findings.extend([
            hooks(status),
            outlived(status),
            losses(status),
            metrics(&status.agent, || arguments(status.agent.pid)),
        ]),
    }
    findings
}

/// `control` is the control socket that the user named.
fn runs(agent: &Result<Option<Status>, NoAnswer>, control: Option<&Path>) -> Finding {
    const NAME: &str = "agent";
    match agent {
        Ok(Some(status)) => ok(
            NAME,
            format!(
                "agent {} runs (process {})",
                status.agent.version, status.agent.pid
            ),
        ),
        Ok(None) => match control {
            None => ok(NAME, "no agent runs in this network namespace"),
            Some(path) => {
                let path = path.to_string_lossy();
                warning(
                    NAME,
                    format!("there is no agent at {path}"),
                    format!("# mptcp-agent run --control {}", quoted(&path)),
                )
            }
        },
        Err(NoAnswer {
            denied: true,
            message,
        }) => unknown(NAME, message),
        Err(NoAnswer { message, .. }) => problem(
            NAME,
            message,
            "# kill -9 the process that `ss -xlp | grep mptcp-agent` names, and start it anew",
        ),
    }
}

fn hooks(status: &Status) -> Finding {
    let mut faults = Faults::default();
    for hook in status.hooks.iter().filter(|hook| !hook.attached) {
        let reason = hook.reason.as_deref().unwrap_or("it does not say why");
        faults.add(
            Verdict::Warning,
            format!("{} is not attached: {reason}", hook.program),
            "# see docs/troubleshooting.md: a hook is not attached",
        );
    }
    faults.finish("agent-hooks", "every hook is attached")
}

fn outlived(status: &Status) -> Finding {
    const NAME: &str = "agent-outlived";
    match (status.agent.outlived, &status.agent.not_outlived_because) {
        (true, _) => ok(NAME, "the programs lift the agent's limits if it is killed"),
        (false, why) => warning(
            NAME,
            format!(
                "limits stay if the agent is killed: {}",
                why.as_deref().unwrap_or("it does not say why")
            ),
            "# mend bpffs and bpffs-mode, then start the agent anew",
        ),
    }
}

fn losses(status: &Status) -> Finding {
    let mut faults = Faults::default();
    if status.map_full > 0 {
        faults.add(
            Verdict::Warning,
            format!(
                "{} connections and subflows found their map full",
                status.map_full
            ),
            "# stop the agent with SIGTERM, and start it with a larger --max-connections",
        );
    }
    // Nothing but the log and `events` depends on events.
    let fine = format!(
        "no connection found its map full; {} events were lost",
        status.events_lost
    );
    faults.finish("agent-losses", fine)
}

/// `arguments` are those that the agent was started with, if they can be read.
fn metrics(agent: &Agent, arguments: impl FnOnce() -> Option<Vec<String>>) -> Finding {
    const NAME: &str = "metrics-address";
    // An agent of an earlier version names one place only.
    let all = match &agent.listeners[..] {
        [] => std::slice::from_ref(&agent.listen),
        all => all,
    };
    let mut places = Vec::new();
    for text in all {
        match text.parse::<Listen>() {
            Ok(place) => places.push(place),
            Err(error) => return unknown(NAME, format!("`{text}` is no address: {error}")),
        }
    }
    let shown = all.join(" and ");
    let with = match (agent.web_tls, agent.web_auth) {
        (true, true) => ", with TLS and a password",
        (true, false) => ", with TLS",
        (false, true) => ", with a password",
        (false, false) => "",
    };
    let is_open = |place: &Listen| matches!(place, Listen::Tcp(address) if is_open(address.ip()));
    if !with.is_empty() || !places.iter().any(is_open) {
        return ok(NAME, format!("metrics are served on {shown}{with}"));
    }
    let seen = format!("metrics are served on {shown}, to anybody who reaches this host");
    let closed: Vec<Listen> = places.into_iter().map(closed).collect();
    let mend = match arguments() {
        Some(arguments) => successor(&arguments, &closed),
        None => format!("# start the agent with {}", flags(&closed)),
    };
    warning(NAME, seen, mend)
}

/// Returns the place that only this host reaches, instead of one that others do.
fn closed(place: Listen) -> Listen {
    let loopback = |address: SocketAddr| match address {
        SocketAddr::V4(_) => IpAddr::from([127, 0, 0, 1]),
        SocketAddr::V6(_) => IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]),
    };
    match place {
        Listen::Tcp(address) if is_open(address.ip()) => {
            Listen::Tcp(SocketAddr::new(loopback(address), address.port()))
        }
        other => other,
    }
}

/// Returns `--listen PLACE` for each of these.
fn flags(places: &[Listen]) -> String {
    let flags = places.iter().map(|place| match place {
        Listen::Tcp(address) => format!("--listen {address}"),
        Listen::Unix(_) => format!("--listen {}", quoted(&place.to_string())),
    });
    flags.collect::<Vec<_>>().join(" ")
}

/// Returns whether an address is neither this host's alone nor that of a private
/// network.
fn is_open(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            !address.is_loopback() && !address.is_private() && !address.is_link_local()
        }
        IpAddr::V6(address) => {
            !address.is_loopback() && !address.is_unique_local() && !address.is_unicast_link_local()
        }
    }
}

/// Returns the command of an agent that takes over, with the same arguments but
/// other places of `--listen`.
fn successor(arguments: &[String], places: &[Listen]) -> String {
    let mut words = Vec::new();
    let mut given = arguments.iter();
    while let Some(word) = given.next() {
        if word == "--listen" {
            given.next();
        } else if !word.starts_with("--listen=") && word != "--take-over" {
            words.push(quoted(word));
        }
    }
    format!("{} --take-over {}", words.join(" "), flags(places))
}

/// Reads the command line of a process that runs `mptcp-agent run`.
fn arguments(process: u32) -> Option<Vec<String>> {
    let bytes = fs::read(format!("/proc/{process}/cmdline")).ok()?;
    let words = bytes
        .split(|byte| *byte == 0)
        .filter(|word| !word.is_empty());
    let words: Option<Vec<String>> = words
        .map(|word| String::from_utf8(word.to_vec()).ok())
        .collect();
    // The agent may be in another PID namespace, so that this is another process.
    words.filter(|words| words.get(1).is_some_and(|word| word == "run"))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    /// Returns an agent that serves metrics there alone.
    fn at(listen: &str) -> Agent {
        Agent {
            version: String::new(),
            commit: String::new(),
            pid: 1,
            uptime_seconds: 0.0,
            listen: listen.to_owned(),
            listeners: Vec::new(),
            web_tls: false,
            web_auth: false,
            outlived: true,
            not_outlived_because: None,
        }
    }

    #[test]
    fn an_address_that_the_world_reaches_is_a_warning() {
        for (listen, expected) in [
            ("127.0.0.1:8684", Verdict::Ok),
            ("[::1]:8684", Verdict::Ok),
            ("10.1.2.3:8684", Verdict::Ok),
            ("[fd00::1]:8684", Verdict::Ok),
            ("0.0.0.0:8684", Verdict::Warning),
            ("[::]:8684", Verdict::Warning),
            ("198.51.100.1:8684", Verdict::Warning),
            ("nonsense", Verdict::Unknown),
        ] {
            assert_eq!(metrics(&at(listen), || None).result, expected, "{listen}");
        }
        let mut several = at("127.0.0.1:1");
        several.listeners = vec!["127.0.0.1:1".into(), "unix:/run/a".into()];
        assert_eq!(metrics(&several, || None).result, Verdict::Ok);
        several.listeners.push("[::]:2".into());
        let finding = metrics(&several, || None);
        assert_eq!(finding.result, Verdict::Warning);
        assert_eq!(
            finding.mend.unwrap(),
            "# start the agent with --listen 127.0.0.1:1 --listen unix:/run/a --listen [::1]:2"
        );
        several.web_auth = true;
        let finding = metrics(&several, || None);
        assert_eq!(finding.result, Verdict::Ok);
        assert!(
            finding.seen.ends_with("with a password"),
            "{}",
            finding.seen
        );
    }

    #[test]
    fn a_successor_has_the_same_arguments_but_another_address() {
        let words = "/usr/bin/mptcp-agent run --listen 0.0.0.0:1 --policy weighted --weight";
        let mut words: Vec<String> = words.split(' ').map(str::to_owned).collect();
        words.push("my dev=4".to_owned());
        let mend = metrics(&at("0.0.0.0:1"), || Some(words)).mend.unwrap();
        assert_eq!(
            mend,
            "/usr/bin/mptcp-agent run --policy weighted --weight 'my dev=4' --take-over --listen \
             127.0.0.1:1"
        );
        let none = metrics(&at("[::]:1"), || None).mend.unwrap();
        assert_eq!(none, "# start the agent with --listen [::1]:1");
    }

    #[test]
    fn no_agent_is_no_fault_and_a_silent_one_is_unknown() {
        assert_eq!(runs(&Ok(None), None).result, Verdict::Ok);
        let named = Some(Path::new("/run/x.sock"));
        assert_eq!(runs(&Ok(None), named).result, Verdict::Warning);
        for (denied, expected) in [(true, Verdict::Unknown), (false, Verdict::Problem)] {
            let message = "no answer".to_owned();
            assert_eq!(
                runs(&Err(NoAnswer { denied, message }), None).result,
                expected
            );
        }
    }
}
