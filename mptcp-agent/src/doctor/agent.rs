//! Checks the agent that runs, by what it says of itself.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use mptcp_api::schema::Status;

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
            metrics(&status.agent.listen, || arguments(status.agent.pid)),
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
fn metrics(listen: &str, arguments: impl FnOnce() -> Option<Vec<String>>) -> Finding {
    const NAME: &str = "metrics-address";
    let address: SocketAddr = match listen.parse() {
        Ok(address) => address,
        Err(error) => return unknown(NAME, format!("`{listen}` is no address: {error}")),
    };
    if !is_open(address.ip()) {
        return ok(NAME, format!("metrics are served on {listen}"));
    }
    let seen = format!("metrics are served on {listen}, to anybody who reaches this host");
    let closed = SocketAddr::new(
        match address {
            SocketAddr::V4(_) => IpAddr::from([127, 0, 0, 1]),
            SocketAddr::V6(_) => IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]),
        },
        address.port(),
    );
    let mend = match arguments() {
        Some(arguments) => successor(&arguments, closed),
        None => format!("# start the agent with --listen {closed}"),
    };
    warning(NAME, seen, mend)
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
/// another address.
fn successor(arguments: &[String], listen: SocketAddr) -> String {
    let mut words = Vec::new();
    let mut given = arguments.iter();
    while let Some(word) = given.next() {
        if word == "--listen" {
            given.next();
        } else if !word.starts_with("--listen=") && word != "--take-over" {
            words.push(quoted(word));
        }
    }
    format!("{} --take-over --listen {listen}", words.join(" "))
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
            assert_eq!(metrics(listen, || None).result, expected, "{listen}");
        }
    }

    #[test]
    fn a_successor_has_the_same_arguments_but_another_address() {
        let words = "/usr/bin/mptcp-agent run --listen 0.0.0.0:1 --policy weighted --weight";
        let mut words: Vec<String> = words.split(' ').map(str::to_owned).collect();
        words.push("my dev=4".to_owned());
        let mend = metrics("0.0.0.0:1", || Some(words)).mend.unwrap();
        assert_eq!(
            mend,
            "/usr/bin/mptcp-agent run --policy weighted --weight 'my dev=4' --take-over --listen \
             127.0.0.1:1"
        );
        let none = metrics("[::]:1", || None).mend.unwrap();
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
