#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::run::DEFAULT_LISTEN;
use super::*;
use crate::policy::Policy;

fn parse_job(line: &str) -> Result<Job, String> {
    let matches = Cli::command().try_get_matches_from(line.split_whitespace());
    let matches = matches.map_err(|error| error.to_string())?;
    job(&matches).map_err(|error| {
        assert_eq!(error.exit_code(), 2);
        error.to_string()
    })
}

fn parse(line: &str) -> Result<(RunArgs, Policy), String> {
    match parse_job(line)? {
        Job::Run(flags) => Ok((flags.args, Policy::new(flags.policy).unwrap())),
        other => panic!("{other:?}"),
    }
}

fn client(line: &str) -> Result<ClientJob, String> {
    match parse_job(&format!("mptcp-agent {line}"))? {
        Job::Client(job) => Ok(job),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_definition_holds() {
    Cli::command().debug_assert();
}

#[test]
fn defaults() {
    let (args, policy) = parse("mptcp-agent run").unwrap();
    assert_eq!(policy, Policy::default());
    assert_eq!(args.listen[0].to_string(), DEFAULT_LISTEN);
    assert_eq!(args.max_connections, 16_384);
    assert_eq!(args.log_format, LogFormat::Text);
    assert_eq!((args.control, args.cgroup), (None, None));
}

#[test]
fn weights_come_through() {
    let line = "mptcp-agent run --policy weighted --weight eth0=4 --weight default=0";
    let (_, policy) = parse(line).unwrap();
    assert_eq!(policy.to_string(), "weighted (strict)");
    assert_eq!(policy.weights().unlisted, 0);
    assert_eq!(policy.weights().listed[0].weight, 4);
}

#[test]
fn the_order_of_preference_comes_through() {
    let line = "mptcp-agent run --policy overflow --prefer eth0 --prefer id:02";
    let (_, policy) = parse(line).unwrap();
    assert_eq!(policy.to_string(), "overflow (eth0, id:2)");
    let (_, policy) = parse("mptcp-agent run --policy aggregate").unwrap();
    assert_eq!(policy.to_string(), "aggregate");
}

#[test]
fn settings_of_the_redundant_policy_come_through() {
    let (_, policy) = parse("mptcp-agent run --policy redundant").unwrap();
    let settings = policy.copies().unwrap();
    assert_eq!((settings.copies, settings.port), (2, 8684));
    let line = "mptcp-agent run --policy redundant --redundant-copies 4 \
                --redundant-port 9000 --redundant-key /etc/key --redundant-budget 40mbit";
    let (_, policy) = parse(line).unwrap();
    let settings = policy.copies().unwrap();
    assert_eq!((settings.copies, settings.port), (4, 9000));
    assert_eq!(settings.key, Some("/etc/key".into()));
    let budget = settings.budget.unwrap();
    assert_eq!(budget.bytes_per_sec, 5_000_000);
}

#[test]
fn bounds_come_through() {
    for name in ["weighted", "overflow --prefer wwan0", "aggregate"] {
        let line = format!(
            "mptcp-agent run --policy {name} --leave-out wwan0=rtt:2s,loss:5% \
             --leave-out default=loss:10%"
        );
        let (_, policy) = parse(&line).unwrap();
        assert!(policy.bounds().act());
        assert_eq!(
            policy.given().leave_out.leave_out,
            ["wwan0=loss:5%,rtt:2000ms", "default=loss:10%"]
        );
        let ClientJob { verb, .. } = client(&format!(
            "policy set {name} --leave-out default=loss:10% --leave-out eth0=none"
        ))
        .unwrap();
        let Verb::PolicySet { policy, .. } = verb else {
            panic!("{verb:?}");
        };
        let bounds = ["default=loss:10%", "eth0=none"];
        assert_eq!(policy.leave_out.leave_out, bounds);
    }
}

#[test]
fn wrong_arguments_say_why() {
    for (arguments, reason) in [
        (
            "--leave-out wwan0=loss:5%",
            "--leave-out has no effect under policy default, which only observes: choose policy \
             weighted, overflow or aggregate",
        ),
        (
            "--policy redundant --leave-out wwan0=loss:5%",
            "--leave-out has no effect under policy redundant",
        ),
        (
            "--policy weighted --leave-out wwan0",
            "`wwan0` has no bound",
        ),
        (
            "--policy weighted --leave-out wwan0=loss:60%",
            "`loss:60%` is no bound: expected loss:5% (0.1% to 50%)",
        ),
        (
            "--policy weighted --leave-out id:2=loss:5%",
            "--leave-out: `id:2` is no path of its own yet",
        ),
        (
            "--policy aggregate --leave-out eth0=none --leave-out eth0=loss:5%",
            "--leave-out names the path `eth0` more than once",
        ),
        (
            "--policy fast",
            "[possible values: default, weighted, overflow, aggregate, redundant]",
        ),
        ("--weight eth0=1", "choose policy weighted"),
        ("--weighted-mode spill", "choose policy weighted"),
        ("--prefer eth0", "choose policy overflow"),
        (
            "--policy overflow",
            "--prefer is missing: expected at least one path, the preferred one first",
        ),
        (
            "--policy overflow --prefer eth0 --prefer eth0",
            "--prefer names the path `eth0` more than once",
        ),
        ("--policy overflow --prefer 10.0.0.1/24", "10.0.0.0/24"),
        (
            "--policy overflow --prefer eth0 --weight eth0=1",
            "--weight has no effect under policy overflow",
        ),
        ("--redundant-copies 3", "choose policy redundant"),
        ("--redundant-port 9000", "choose policy redundant"),
        ("--redundant-key /etc/key", "choose policy redundant"),
        ("--redundant-budget 40mbit", "choose policy redundant"),
        (
            "--policy weighted --redundant-port 9000",
            "--redundant-port has no effect under policy weighted",
        ),
        (
            "--policy redundant --weight eth0=1",
            "--weight has no effect under policy redundant",
        ),
        ("--policy redundant --redundant-copies 1", "2..=4"),
        ("--policy redundant --redundant-copies 5", "2..=4"),
        ("--policy redundant --redundant-port 0", "1..=65535"),
        ("--policy redundant --redundant-port 65536", "1..=65535"),
        ("--policy redundant --redundant-budget fast", "8kbit"),
        (
            "--policy weighted --weight eth0=65536",
            "0 (standby) to 65535",
        ),
        (
            "--policy weighted --weight eth0=0 --weight default=0",
            "all weights are 0",
        ),
        (
            "--policy weighted --weight id:1=1 --weight id:01=2",
            "same path",
        ),
        ("--listen 8684", "expected ADDR:PORT"),
        ("--listen localhost:8684", "expected ADDR:PORT"),
        ("--listen unix:run.sock", "expected an absolute path"),
        ("--max-connections 0", "1..=1048576"),
        ("--max-connections 1048577", "1..=1048576"),
        ("--log-format xml", "[possible values: text, json]"),
    ] {
        let error = parse(&format!("mptcp-agent run {arguments}")).unwrap_err();
        assert!(error.contains(reason), "{arguments}: {error}");
    }
}

#[test]
fn a_setting_has_its_flag() {
    use mptcp_api::policy::{Overflow, Redundant, Setting, Shared, Weighted};

    for (setting, expected) in [
        (Setting::NAME, "--policy"),
        (Weighted::MODE, "--weighted-mode"),
        (Weighted::WEIGHTS, "--weight"),
        (Overflow::PREFER, "--prefer"),
        (Shared::LIMITS, "--limit"),
        (Shared::QUOTAS, "--quota"),
        (Redundant::COPIES, "--redundant-copies"),
        (Redundant::PORT, "--redundant-port"),
        (Redundant::KEY, "--redundant-key"),
        (Redundant::BUDGET, "--redundant-budget"),
    ] {
        assert_eq!(flag(setting), expected);
    }
}

#[test]
fn an_error_about_settings_names_the_flag() {
    for (arguments, error) in [
        (
            "--weight eth0=1",
            "--weight has no effect under policy default, which only observes: choose policy \
             weighted, or leave --weight out",
        ),
        (
            "--policy weighted --weight eth0=1 --weight eth0=2",
            "two --weight name the same path, `eth0`: give each path one weight",
        ),
        (
            "--policy weighted --redundant-key key",
            "--redundant-key has no effect under policy weighted: choose policy redundant, or \
             leave --redundant-key out",
        ),
    ] {
        for command in ["run", "policy set"] {
            let arguments = match command {
                "run" => arguments.to_owned(),
                _ if arguments.starts_with("--policy") => arguments.replacen("--policy ", "", 1),
                _ => format!("default {arguments}"),
            };
            let said = parse_job(&format!("mptcp-agent {command} {arguments}")).unwrap_err();
            assert!(said.starts_with(&format!("error: {error}\n")), "{said}");
        }
    }
}

#[test]
fn quotas_come_through() {
    let (args, policy) = parse(
        "mptcp-agent run --policy weighted --quota wwan0=50GB/month,reset:15 \
         --quota id:1=1GiB/day --state-dir /srv/state",
    )
    .unwrap();
    assert_eq!(args.state_dir, Some("/srv/state".into()));
    let quotas = ["wwan0=50GB/month,reset:15", "id:1=1GiB/day"];
    assert_eq!(policy.given().shared.quotas, quotas);
    let error = parse("mptcp-agent run --quota wwan0=50GB/month").unwrap_err();
    assert!(
        error.contains("--quota: `wwan0=50GB/month` makes"),
        "{error}"
    );
    let job = client("quota --json").unwrap();
    assert_eq!((job.verb, job.json), (Verb::QuotaShow, true));
    let job = client("quota reset id:01 --control /tmp/x.sock").unwrap();
    let path = "id:01".to_owned();
    assert_eq!(job.verb, Verb::QuotaReset { path });
    assert_eq!(job.control, Some("/tmp/x.sock".into()));
}

#[test]
fn what_is_asked_of_a_running_agent() {
    let job = client("policy show").unwrap();
    assert_eq!(
        (job.verb, job.json, job.control),
        (Verb::PolicyShow, false, None)
    );
    let job = client("status --json --control /tmp/x.sock").unwrap();
    assert_eq!((job.verb, job.json), (Verb::Status, true));
    assert_eq!(job.control, Some("/tmp/x.sock".into()));
    assert_eq!(client("events").unwrap().verb, Verb::Events);
    for (arguments, sort) in [
        ("", SortKey::Acked),
        ("--sort rtt", SortKey::Rtt),
        ("--sort token", SortKey::Token),
    ] {
        let job = client(&format!("connections {arguments}")).unwrap();
        assert_eq!(job.verb, Verb::Connections { sort });
    }
}

#[test]
fn a_policy_is_set_with_the_arguments_of_run() {
    let set = |line: &str| match client(&format!("policy set {line}")).unwrap().verb {
        Verb::PolicySet {
            policy,
            for_seconds,
            save,
        } => {
            assert!(!save);
            (policy, for_seconds)
        }
        other => panic!("{other:?}"),
    };
    let (policy, lasting) = set("weighted --weight eth0=4 --weighted-mode spill --for 10m");
    assert_eq!((policy.name.as_str(), lasting), ("weighted", Some(600)));
    assert_eq!(policy.weighted.weights, ["eth0=4"]);
    assert_eq!(policy.weighted.weighted_mode.as_deref(), Some("spill"));
    let (policy, lasting) = set("redundant --redundant-key key --redundant-budget 8000");
    assert_eq!(
        (policy.redundant.redundant_budget.as_deref(), lasting),
        (Some("8kbit"), None)
    );
    // The agent has another working directory.
    let key = policy.redundant.redundant_key.unwrap();
    assert_eq!(key, std::env::current_dir().unwrap().join("key"));
    for (time, seconds) in [("90s", 90), ("2h", 7200), ("1h 30m", 5400), ("1d", 86400)] {
        let time = time.replace(' ', "");
        assert_eq!(set(&format!("default --for {time}")).1, Some(seconds));
    }
}

#[test]
fn a_policy_may_be_saved_for_good_only() {
    let ClientJob { verb, .. } = client("policy set default --save").unwrap();
    assert!(matches!(verb, Verb::PolicySet { save: true, .. }));
    let error = client("policy set default --save --for 10m").unwrap_err();
    assert!(error.contains("cannot be used with"), "{error}");
    assert_eq!(client("reload").unwrap().verb, Verb::Reload);
}

#[test]
fn the_configuration_is_checked_and_shown_without_an_agent() {
    let config = |line: &str| match parse_job(&format!("mptcp-agent config {line}")) {
        Ok(Job::Config(job)) => job,
        other => panic!("{other:?}"),
    };
    let ConfigJob::Check(flags) = config("check -a.toml") else {
        panic!("no check")
    };
    assert_eq!(flags.args.config, Some("-a.toml".into()));
    let ConfigJob::Show(flags) = config("show --config a.toml --weight eth0=1 --listen [::]:1")
    else {
        panic!("no show")
    };
    assert!(flags.has("weights") && flags.has("listen") && !flags.has("max_connections"));
    assert!(matches!(config("example"), ConfigJob::Example));
    // Without a file the flags have to make a policy by themselves.
    let error = parse_job("mptcp-agent config show --weight eth0=1").unwrap_err();
    assert!(error.contains("--weight has no effect"), "{error}");
    assert!(parse_job("mptcp-agent run --config a --weight eth0=1").is_ok());
}

#[test]
fn wrong_arguments_of_client_commands_say_why() {
    let long = format!("status --control /{}", "x".repeat(107));
    for (arguments, reason) in [
        ("policy", "show"),
        ("policy set", "<POLICY>"),
        (
            "policy set fast",
            "[possible values: default, weighted, overflow, aggregate, redundant]",
        ),
        (
            "policy set default --weight eth0=1",
            "choose policy weighted",
        ),
        (
            "policy set weighted --redundant-copies 2",
            "choose policy redundant",
        ),
        (
            "policy set weighted --weight eth0=0 --weight default=0",
            "all weights are 0",
        ),
        ("policy set redundant --redundant-copies 9", "2..=4"),
        ("policy set default --for soon", "90s, 10m or 2h"),
        ("policy set default --for 0s", "expected 1 to"),
        ("policy set default --for 1500ms", "whole number of seconds"),
        ("policy set default --for 20years", "(a year)"),
        ("policy show --for 10m", "--for"),
        ("connections --sort size", "possible values: token, acked"),
        ("status extra", "extra"),
        ("quota reset", "<PATH>"),
        ("quota reset id:x", "0 to 255"),
        ("quota --json reset eth0", "cannot be used with"),
        (long.as_str(), "at most 107 bytes"),
    ] {
        let error = client(arguments).unwrap_err();
        assert!(error.contains(reason), "{arguments}: {error}");
    }
}

#[test]
fn the_exit_codes_are_in_every_help() {
    for command in [
        "policy show",
        "policy set",
        "reload",
        "status",
        "connections",
        "quota",
        "quota reset",
        "events",
    ] {
        let help = parse_job(&format!("mptcp-agent {command} --help")).unwrap_err();
        for code in [
            "0  done",
            "1  ",
            "2  ",
            "3  there is no agent",
            "4  ",
            "5  ",
        ] {
            assert!(help.contains(&format!("\n  {code}")), "{command}: {help}");
        }
    }
}

#[test]
fn taking_over_and_cleaning_up() {
    assert!(parse("mptcp-agent run --take-over").unwrap().0.take_over);
    assert!(!parse("mptcp-agent run").unwrap().0.take_over);
    let Job::Cleanup(args) = parse_job("mptcp-agent cleanup --log-format json").unwrap() else {
        panic!("no cleanup")
    };
    assert_eq!((args.log_format, args.cgroup), (LogFormat::Json, None));
}
