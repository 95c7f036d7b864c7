//! `endpoints`: shows the kernel's endpoints and limits, beside the paths of the
//! agent that runs, if one does.

use std::collections::BTreeSet;
use std::net::IpAddr;

use mptcp_api::schema::{Path, one_line};
use serde::Serialize;

use super::table::{self, Cell, Column, known, left, right};
use super::terminal::{Style, Terminal};
use super::{Failure, Fault, NoAnswer, ask_status, print};
use crate::cli::EndpointsArgs;
use crate::host::namespace_cookie;
use crate::manage::{self, Made};
use crate::net::devices::{Device, Present};
use crate::net::endpoints::{self, Endpoint, Manager};
use crate::net::watch;
use crate::policy::selector::Selector;

/// The version of what `--json` prints.
const VERSION: u32 = 1;

/// Everything that is shown.
#[derive(Debug, Serialize)]
struct View {
    version: u32,
    /// How many subflows a connection may have beside its first.
    subflows_max: u32,
    /// How many addresses that the other end announces a connection may use.
    accepted_max: u32,
    endpoints: Vec<Row>,
    /// Addresses of named paths that have no endpoint.
    missing: Vec<Missing>,
    /// Whether an agent runs and has answered.
    agent: bool,
    /// Why one that runs has not.
    #[serde(skip_serializing_if = "Option::is_none")]
    no_answer: Option<String>,
}

/// An endpoint.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Row {
    id: u8,
    address: IpAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    /// The device that its subflows are bound to.
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<String>,
    /// Its flags, as `ip mptcp` names them, and `implicit`.
    flags: Vec<String>,
    /// Whether an agent has made it.
    managed: bool,
    state: State,
    /// The path that its subflows belong to.
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    weight: Option<u16>,
}

/// Whether subflows can use the address of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum State {
    /// A device has it, and a carrier.
    Present,
    /// The device that has it has no carrier.
    NoCarrier,
    /// No device has it.
    Absent,
}

/// An address without an endpoint.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Missing {
    path: String,
    address: String,
}

/// Shows everything.
///
/// # Errors
/// The kernel has no path manager, or cannot be asked.
pub(super) fn run(args: &EndpointsArgs) -> Result<(), Failure> {
    let failed = |error: anyhow::Error| Failure::new(Fault::Failed, format!("{error:#}"));
    let manager = endpoints::read_all().map_err(failed)?.ok_or_else(|| {
        let why = "this kernel has no path manager for MPTCP, so it has no endpoints";
        Failure::new(Fault::Failed, why)
    })?;
    let present = watch::now().map_err(failed)?;
    let made = namespace_cookie().ok().and_then(manage::look);
    let (paths, no_answer) = match ask_status(args.control.as_deref()) {
        Ok(status) => (status.map(|status| status.paths), None),
        Err(NoAnswer { message, .. }) => (None, Some(message)),
    };
    let mut view = view(
        &manager,
        &present,
        &made.unwrap_or_default(),
        paths.as_deref(),
    );
    view.no_answer = no_answer;
    match args.json {
        true => {
            let json = serde_json::to_string(&view);
            let json = json.map_err(|error| Failure::new(Fault::Failed, error.to_string()))?;
            print((json + "\n").as_bytes())
        }
        false => print(text(Terminal::of_stdout(), &view).as_bytes()),
    }
}

fn view(manager: &Manager, present: &Present, made: &Made, paths: Option<&[Path]>) -> View {
    let rows = manager.endpoints.iter().map(|endpoint| {
        let with_address = |device: &&Device| device.addresses.contains(&endpoint.address);
        let device = present.values().find(with_address);
        let bound = endpoint.device.and_then(|index| present.get(&index));
        let path = path_of(endpoint, device, paths.unwrap_or_default());
        Row {
            id: endpoint.id,
            address: endpoint.address,
            port: endpoint.port,
            device: bound.map(|device| device.name.clone()),
            flags: flags(endpoint),
            managed: made.endpoints.iter().any(|own| own.is(endpoint)),
            state: match device {
                None => State::Absent,
                Some(device) if device.carrier => State::Present,
                Some(_) => State::NoCarrier,
            },
            path: path.map(|path| path.path.clone()),
            weight: path.and_then(|path| path.weight),
        }
    });
    View {
        version: VERSION,
        subflows_max: manager.subflows,
        accepted_max: manager.accepted,
        endpoints: rows.collect(),
        missing: missing(manager, present, paths.unwrap_or_default()),
        agent: paths.is_some(),
        no_answer: None,
    }
}

fn flags(endpoint: &Endpoint) -> Vec<String> {
    let implicit = endpoint.is_implicit().then(|| "implicit".to_owned());
    let named = endpoint.flags();
    let named = named.split_whitespace().map(str::to_owned);
    named.chain(implicit).collect()
}

/// Returns the path that subflows of an endpoint belong to, as the agent decides
/// it.
fn path_of<'a>(
    endpoint: &Endpoint,
    device: Option<&Device>,
    paths: &'a [Path],
) -> Option<&'a Path> {
    let rank = |path: &Path| match path.path.parse().ok()? {
        Selector::LocalId(id) => (id == endpoint.id).then_some(u8::MAX),
        Selector::Prefix(net) => {
            (net.contains(&endpoint.address)).then(|| net.prefix_len().saturating_add(1))
        }
        Selector::Device(name) => (Some(&name) == device.map(|device| &device.name)).then_some(0),
        _ => None,
    };
    let ranked = paths.iter().filter_map(|path| Some((rank(path)?, path)));
    ranked.max_by_key(|(rank, _)| *rank).map(|(_, path)| path)
}

/// Returns the addresses of named devices that no endpoint has.
fn missing(manager: &Manager, present: &Present, paths: &[Path]) -> Vec<Missing> {
    let held: BTreeSet<IpAddr> = manager.endpoints.iter().map(|one| one.address).collect();
    let named = paths.iter().filter(|path| path.listed);
    let mut missing = Vec::new();
    for path in named {
        let device = |one: &&Device| Some(&one.name) == path.device.as_ref();
        for device in present.values().filter(device) {
            let free = device
                .sources
                .iter()
                .filter(|source| !source.secondary && !held.contains(&source.address));
            missing.extend(free.map(|source| Missing {
                path: path.path.clone(),
                address: source.address.to_string(),
            }));
        }
    }
    missing
}

fn text(terminal: Terminal, view: &View) -> String {
    const COLUMNS: [Column; 8] = [
        right("ID", 0),
        left("ADDRESS", 0),
        left("DEVICE", 2),
        left("FLAGS", 0),
        left("STATE", 1),
        left("MADE BY", 3),
        left("PATH", 1),
        right("WEIGHT", 2),
    ];
    let row = |row: &Row| {
        let (style, state) = match row.state {
            State::Present => (Style::Good, "present"),
            State::NoCarrier => (Style::Bad, "no carrier"),
            State::Absent => (Style::Bad, "absent"),
        };
        let address = match row.port {
            Some(port) => std::net::SocketAddr::new(row.address, port).to_string(),
            None => row.address.to_string(),
        };
        vec![
            Cell::from(row.id.to_string()),
            Cell::from(address),
            known(row.device.as_ref(), String::clone),
            Cell::from(row.flags.join(" ")),
            Cell::styled(style, state),
            Cell::from(if row.managed { "agent" } else { "others" }),
            known(row.path.as_ref(), String::clone),
            known(row.weight, |weight| weight.to_string()),
        ]
    };
    let mut text = String::new();
    if view.endpoints.is_empty() {
        text += "there are no endpoints\n";
    } else {
        let rows: Vec<_> = view.endpoints.iter().map(row).collect();
        text += &table::render(terminal, &COLUMNS, &rows);
    }
    for missing in &view.missing {
        let line = format!("path {}: {} has no endpoint", missing.path, missing.address);
        text += &terminal.paint(Style::Notable, &one_line(&line));
        text.push('\n');
    }
    text += &format!(
        "a connection may have {} subflows beside its first, and use {} announced addresses\n",
        view.subflows_max, view.accepted_max
    );
    match (&view.no_answer, view.agent) {
        (Some(why), _) => {
            text += &format!("the agent does not tell its paths: {}\n", one_line(why))
        }
        (None, false) => text += "no agent runs here\n",
        (None, true) => {}
    }
    text
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use serde_json::json;

    use super::*;
    use crate::net::devices::Source;

    fn present() -> Present {
        let device = |name: &str, last: u8, carrier| {
            let address: IpAddr = [10, 0, last, 1].into();
            Device {
                name: name.to_owned(),
                carrier,
                addresses: vec![address],
                sources: vec![Source {
                    address,
                    length: 24,
                    secondary: false,
                }],
                ..Device::default()
            }
        };
        Present::from([
            (1, device("eth0", 1, true)),
            (2, device("wwan0", 2, false)),
            (3, device("usb0", 3, true)),
        ])
    }

    fn manager() -> Manager {
        let endpoint = |id, last, device, flags| {
            Endpoint::with_flags(id, [10, 0, last, 1].into(), device, flags)
        };
        Manager {
            endpoints: vec![
                endpoint(1, 1, Some(1), "subflow"),
                endpoint(2, 2, Some(2), "subflow backup"),
                endpoint(9, 9, None, "signal"),
            ],
            subflows: 4,
            accepted: 0,
        }
    }

    fn path(name: &str, device: Option<&str>, weight: u16) -> Path {
        serde_json::from_value(json!({
            "path": name, "listed": true, "present": true, "device": device,
            "addresses": [], "subflows": 0, "alive": 0, "weight": weight,
            "sent_bytes_per_second": 0.0, "acked_bytes_per_second": 0.0,
            "received_bytes_per_second": 0.0, "retransmitted_segments": 0,
        }))
        .unwrap()
    }

    const PLAIN: Terminal = Terminal {
        width: None,
        colours: false,
    };

    #[test]
    fn endpoints_beside_the_paths_of_the_agent() {
        let paths = [
            path("wwan0", Some("wwan0"), 0),
            path("usb0", Some("usb0"), 2),
            path("id:1", None, 5),
        ];
        let made = serde_json::from_value(json!({
            "endpoints": [{"id": 2, "address": "10.0.2.1", "device": 2, "flags": 6}],
        }));
        let view = view(&manager(), &present(), &made.unwrap(), Some(&paths));
        assert_eq!(
            text(PLAIN, &view),
            "ID  ADDRESS   DEVICE  FLAGS           STATE       MADE BY  PATH   WEIGHT\n\
             \u{20}1  10.0.1.1  eth0    subflow         present     others   id:1        5\n\
             \u{20}2  10.0.2.1  wwan0   subflow backup  no carrier  agent    wwan0       0\n\
             \u{20}9  10.0.9.1  -       signal          absent      others   -           -\n\
             path usb0: 10.0.3.1 has no endpoint\n\
             a connection may have 4 subflows beside its first, and use 0 announced addresses\n"
        );
        let json = serde_json::to_value(&view).unwrap();
        let expected = json!({
            "id": 2, "address": "10.0.2.1", "device": "wwan0", "flags": ["subflow", "backup"],
            "managed": true, "state": "no-carrier", "path": "wwan0", "weight": 0,
        });
        assert_eq!(json["endpoints"][1], expected);
        assert_eq!(
            json["missing"],
            json!([{"path": "usb0", "address": "10.0.3.1"}])
        );
    }

    #[test]
    fn without_an_agent_only_what_the_kernel_has() {
        let mut view = view(&Manager::default(), &present(), &Made::default(), None);
        assert_eq!(
            text(PLAIN, &view),
            "there are no endpoints\n\
             a connection may have 0 subflows beside its first, and use 0 announced addresses\n\
             no agent runs here\n"
        );
        view.no_answer = Some("denied".to_owned());
        assert!(text(PLAIN, &view).ends_with("the agent does not tell its paths: denied\n"));
    }
}
