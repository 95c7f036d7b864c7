//! An agent's heartbeat, as its programs see it, and the crowd of connections
//! that could hold it up.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle, sleep};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use aya::maps::{Array, HashMap, Map, MapData};
use mptcp_common::abi::{Config, Connection, Subflow, Tuple, mapped_v4, subflow_flag};
use mptcp_common::controller::NO_CAP;

use crate::host::Host;

/// Time between two looks at the heartbeat.
const LOOK: Duration = Duration::from_millis(1);

/// A connection as bytes, as the map holds it.
type Bytes = [u64; size_of::<Connection>() / 8];

/// Watches the heartbeat of a host's agent, on a thread of its own.
pub struct Heartbeats {
    over: Arc<AtomicBool>,
    watch: JoinHandle<Result<Vec<u64>>>,
}

impl Heartbeats {
    /// Starts to watch.
    ///
    /// # Errors
    /// No agent on `host` has pinned its maps.
    pub fn watch(host: &Host) -> Result<Self> {
        let map = Map::Array(MapData::from_pin(pin(host, "CONFIG")?)?);
        let config: Array<_, Config> = Array::try_from(map)?;
        let over = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&over);
        let watch = thread::spawn(move || {
            let mut beats = vec![config.get(&0, 0)?.alive_until_ns];
            while !until.load(Relaxed) {
                let last = config.get(&0, 0)?.alive_until_ns;
                beats.extend(Some(last).filter(|last| beats.last() != Some(last)));
                sleep(LOOK);
            }
            Ok(beats)
        });
        Ok(Self { over, watch })
    }

    /// Ends the watch, and returns the times between heartbeats, by the agent's
    /// clock.
    ///
    /// # Errors
    /// The heartbeat cannot be read.
    pub fn end(self) -> Result<Vec<Duration>> {
        self.over.store(true, Relaxed);
        let beats = self
            .watch
            .join()
            .map_err(|_| anyhow!("the watch failed"))??;
        let gaps = beats.windows(2).map(|pair| pair[1].saturating_sub(pair[0]));
        Ok(gaps.map(Duration::from_nanos).collect())
    }
}

/// Makes the agent of `host` believe in `count` more subflows, two to each
/// connection. They have no sockets.
///
/// # Errors
/// No agent on `host` has pinned its maps, or they have no room.
pub fn crowd(host: &Host, count: u32) -> Result<()> {
    let connections = Map::HashMap(MapData::from_pin(pin(host, "CONNECTIONS")?)?);
    let mut connections: HashMap<_, u64, Bytes> = HashMap::try_from(connections)?;
    let subflows = Map::HashMap(MapData::from_pin(pin(host, "SUBFLOWS")?)?);
    let mut subflows: HashMap<_, u64, Subflow> = HashMap::try_from(subflows)?;
    for number in 0..count {
        // No socket has such a cookie, and no connection such an address.
        let (cookie, key) = (1 << 60 | u64::from(number), 1 + u64::from(number / 2));
        if number % 2 == 0 {
            connections
                .insert(key, connection(number), 0)
                .context("no room for a connection")?;
        }
        subflows
            .insert(cookie, subflow(number, key), 0)
            .context("no room for a subflow")?;
    }
    Ok(())
}

/// Makes a connection with a token and keys of its own.
fn connection(number: u32) -> Bytes {
    use std::mem::offset_of;

    let mut bytes = [0; size_of::<Connection>() / 8];
    bytes[offset_of!(Connection, token) / 8] = u64::from(1 + number);
    bytes[offset_of!(Connection, subflows) / 8] = 2;
    for key in [
        offset_of!(Connection, local_key),
        offset_of!(Connection, remote_key),
    ] {
        bytes[key / 8] = 1 << 40 | u64::from(number);
    }
    bytes
}

/// Makes a subflow on one of a hundred pairs of addresses.
fn subflow(number: u32, connection: u64) -> Subflow {
    let join = subflow_flag::JOIN * (number % 2) as u8;
    Subflow {
        connection,
        cap: NO_CAP,
        tuple: Tuple {
            local: mapped_v4([198, 18, 0, (number % 10) as u8]),
            remote: mapped_v4([198, 18, 1, (number / 10 % 10) as u8]),
            local_port: number as u16,
            remote_port: (number >> 16) as u16 + 1,
            flags: subflow_flag::SERVER | subflow_flag::IDS | join,
            ..Tuple::default()
        },
        ..Subflow::default()
    }
}

fn pin(host: &Host, name: &str) -> Result<PathBuf> {
    let pins = host.pins()?.into_iter();
    let mut named = pins.filter(|path| path.file_name() == Some(name.as_ref()));
    named
        .next()
        .with_context(|| format!("{name} is not pinned"))
}
