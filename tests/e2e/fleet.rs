//! The files of `deploy/` for many hosts: the DaemonSet's agent runs with the rights
//! that it gets there, and all files agree with each other.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use mptcp_lab::{Agent, Lab};
use serde_json::Value;
use tempfile::TempDir;

use crate::deployed::{deployed, documents, each, text, yaml};
use crate::support::{require_agent, scrape_until, two_paths, upload, wait_for_shares};

const DAEMONSET: &str = "kubernetes/daemonset.yaml";

/// Returns the object of this kind.
fn object(file: &str, kind: &str) -> Result<Value> {
    let found = documents(&deployed(file))?;
    let found = found.into_iter().find(|one| one["kind"] == kind);
    found.with_context(|| format!("{file} has no {kind}"))
}

/// Returns what the DaemonSet says of its pods, and of the container in them.
fn pod() -> Result<(Value, Value)> {
    let pod = object(DAEMONSET, "DaemonSet")?["spec"]["template"]["spec"].take();
    let containers: Vec<_> = each(&pod["containers"]).cloned().collect();
    let [container] = &containers[..] else {
        anyhow::bail!("the pod has not one container: {pod}");
    };
    let container = container.clone();
    Ok((pod, container))
}

/// Returns the strings of a list.
fn strings(value: &Value) -> Vec<&str> {
    each(value).filter_map(Value::as_str).collect()
}

/// Returns a command that runs another with the capabilities of the container and
/// no others, as root.
fn confined(host: &mptcp_lab::Host, capabilities: &[&str]) -> Command {
    let named = capabilities
        .iter()
        .map(|name| format!(",+{}", name.to_lowercase()));
    let only = format!("-all{}", named.collect::<String>());
    let mut command = host.command("setpriv");
    command.args(["--no-new-privs", "--inh-caps=-all"]);
    command.arg(format!("--bounding-set={only}"));
    command
}

#[test]
fn the_agent_of_the_daemonset_needs_no_other_rights() -> Result<()> {
    let binary = require_agent!();
    let (_, container) = pod()?;
    let security = &container["securityContext"];
    assert_eq!(strings(&security["capabilities"]["drop"]), ["ALL"]);
    let capabilities = strings(&security["capabilities"]["add"]);

    let directory = TempDir::new()?;
    let inside = |name: &str| directory.path().join(name).display().to_string();
    let (file, control) = (inside("config.toml"), inside("control.sock"));
    let config = object(DAEMONSET, "ConfigMap")?;
    let config = config["data"]["config.toml"].as_str().context("no file")?;
    fs::write(&file, config)?;

    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let node = net.links[0].client_addr.to_string();
    let mut command = confined(&net.client, &capabilities);
    command.arg(&binary);
    for arg in strings(&container["args"]) {
        let arg = arg.replace("/etc/mptcp-agent/config.toml", &file);
        let arg = arg.replace("/run/mptcp-agent/control.sock", &control);
        command.arg(arg.replace("$(NODE_IP)", &node));
    }
    let agent = Agent::launch(&net.client, command)?;
    assert_eq!(agent.listen().ip().to_string(), node);
    let status = fs::read_to_string(format!("/proc/{}/status", agent.process().pid()))?;
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = u64::from_str_radix(effective.context("no CapEff")?.trim(), 16)?;
    assert_eq!(
        effective.count_ones() as usize,
        capabilities.len(),
        "{status}"
    );

    let metrics = agent.scrape()?;
    for program in ["sockops", "mptcp_subflow_get_send", "iter_tcp"] {
        let attached = [("program", program)];
        let attached = metrics.value("mptcp_agent_program_attached", &attached);
        assert_eq!(attached, Some(1.0), "{program}");
    }
    assert_eq!(metrics.value("mptcp_agent_outlived", &[]), Some(1.0));
    let set = |policy: &[&str]| {
        let mut args = vec!["policy", "set", "--control", &control];
        args.extend(policy);
        mptcp_lab::agent::tell(&net.client, &binary, &args)
    };
    set(&["weighted", "--weight", "p1=1", "--weight", "p2=1"])?;
    let (sink, transfer) = upload(&net, 2)?;
    wait_for_shares(&transfer, &net.links, &[1, 1])?;
    set(&["redundant"])?;
    scrape_until(&agent, "the programs of the devices", |metrics| {
        let attached = [("program", "redundant_egress")];
        metrics.value("mptcp_agent_program_attached", &attached) == Some(1.0)
    })?;
    transfer.stop()?;
    drop(sink);
    agent.stop()
}

#[test]
fn the_pod_has_what_it_mounts_and_nothing_more() -> Result<()> {
    let (pod, container) = pod()?;
    for namespace in ["hostNetwork", "hostPID"] {
        assert_eq!(pod[namespace], true, "{namespace}");
    }
    let security = &container["securityContext"];
    assert_eq!(security["readOnlyRootFilesystem"], true);
    assert_eq!(security["allowPrivilegeEscalation"], false);
    ensure!(security["privileged"].is_null(), "{security}");
    let names = |list: &Value| -> BTreeSet<String> {
        let names = each(list).filter_map(|one| one["name"].as_str());
        names.map(str::to_owned).collect()
    };
    assert_eq!(names(&container["volumeMounts"]), names(&pod["volumes"]));
    // The agent cannot write what it only reads.
    for mount in each(&container["volumeMounts"]) {
        let written = ["bpf", "run", "state"]
            .map(Value::from)
            .contains(&mount["name"]);
        assert_eq!(mount["readOnly"] == true, !written, "{mount}");
    }
    let labels = object(DAEMONSET, "DaemonSet")?["spec"]["selector"]["matchLabels"].take();
    let monitor = object("kubernetes/podmonitor.yaml", "PodMonitor")?;
    assert_eq!(monitor["spec"]["selector"]["matchLabels"], labels);
    let endpoint = &monitor["spec"]["podMetricsEndpoints"][0];
    ensure!(
        each(&container["ports"]).any(|port| port["name"] == endpoint["port"]),
        "{endpoint}"
    );
    Ok(())
}

#[test]
fn the_pod_and_the_service_have_the_same_capabilities() -> Result<()> {
    let unit = text(&deployed("systemd/mptcp-agent.service"))?;
    let (_, container) = pod()?;
    let pod = strings(&container["securityContext"]["capabilities"]["add"]);
    let pod: BTreeSet<_> = pod.iter().map(|name| format!("CAP_{name}")).collect();
    for setting in ["CapabilityBoundingSet=", "AmbientCapabilities="] {
        let line = unit.lines().find_map(|line| line.strip_prefix(setting));
        let service = line.with_context(|| format!("the unit has no {setting}"))?;
        let service: BTreeSet<_> = service.split_whitespace().map(str::to_owned).collect();
        assert_eq!(service, pod, "{setting}");
    }
    Ok(())
}

#[test]
fn the_operators_rules_are_those_of_prometheus() -> Result<()> {
    let output = Command::new("sh")
        .arg(deployed("kubernetes/prometheus-rule.sh"))
        .output()?;
    ensure!(output.status.success(), "{output:?}");
    let rule: Value = serde_saphyr::from_str(&String::from_utf8(output.stdout)?)?;
    assert_eq!(rule["kind"], "PrometheusRule");
    let mut groups = Vec::new();
    for file in ["prometheus/recording.yml", "prometheus/alerts.yml"] {
        groups.extend(each(&yaml(&deployed(file))?["groups"]).cloned());
    }
    assert_eq!(rule["spec"]["groups"], Value::from(groups));
    Ok(())
}

#[test]
fn the_role_and_the_container_name_files_that_agree() -> Result<()> {
    let role = "ansible/roles/mptcp_agent";
    let defaults = yaml(&deployed(role).join("defaults/main.yml"))?;
    let tasks = text(&deployed(role).join("tasks/main.yml"))?;
    let tasks_parsed = yaml(&deployed(role).join("tasks/main.yml"))?;
    let defaults = defaults.as_object().context("no defaults")?;
    ensure!(!defaults.is_empty(), "no defaults");
    for name in defaults.keys() {
        ensure!(
            tasks.contains(&format!("{{{{ {name} }}}}")),
            "{name} is not used"
        );
    }
    let handlers = yaml(&deployed(role).join("handlers/main.yml"))?;
    for task in each(&tasks_parsed) {
        if let Some(handler) = task["notify"].as_str() {
            let known = each(&handlers).any(|one| one["name"] == handler);
            ensure!(known, "no handler is called {handler}");
        }
    }
    let play = yaml(&deployed("ansible/site.yml"))?;
    assert_eq!(play[0]["roles"][0]["role"], "mptcp_agent");

    let recipe = text(&deployed("container/Containerfile"))?;
    let has = |line: &str| recipe.lines().any(|one| one == line);
    ensure!(has("FROM scratch"), "{recipe}");
    ensure!(has("COPY --chmod=0755 ${BINARY} /mptcp-agent"), "{recipe}");
    ensure!(has("ENTRYPOINT [\"/mptcp-agent\"]"), "{recipe}");
    Ok(())
}
