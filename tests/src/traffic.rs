//! Traffic for the lab: servers, bulk transfers and requests, over MPTCP or
//! plain TCP. Everything has a time limit, can be stopped, and counts while it
//! runs.

mod bulk;
mod churn;
mod crowd;
mod frames;
mod objects;
mod poll_server;
mod poller;
mod request;
mod running;
mod server;
mod socket;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Result;
use socket2::Socket;

use crate::kernel::{self, SubflowInfo};
use crate::wait;

pub use bulk::{Bulk, Report, Transfer};
pub use churn::{Churn, Churned, Churning};
pub use crowd::{Crowd, Crowding};
pub use frames::{Frames, Framing};
pub use objects::{ObjectClient, fetch_fresh};
pub use poll_server::{PollServer, Service};
pub use request::{Exchange, Latencies, RequestResponse};
pub use running::Running;
pub use server::{Behaviour, Connection, Server, ServerConfig};
pub use socket::{Protocol, Sockets};

/// Any IPv4 address, and a port that the kernel chooses.
pub const ANY_V4: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
/// Any address of both families (the socket is AF_INET6), and a port that the
/// kernel chooses.
pub const ANY: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0);

/// Waits until a connection has at least `count` established subflows,
/// including its first, and returns them. (The kernel joins further subflows
/// only once data has been acknowledged.)
pub fn wait_for_subflows(
    socket: &Socket,
    count: usize,
    within: Duration,
) -> Result<Vec<SubflowInfo>> {
    wait::try_until(
        &format!("{count} subflows"),
        within,
        || match kernel::subflows(socket) {
            Ok(mut subflows) => {
                subflows.retain(|subflow| subflow.established);
                if subflows.len() >= count {
                    Ok(subflows)
                } else {
                    Err(Ok(subflows))
                }
            }
            Err(error) => Err(Err(error)),
        },
    )
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
