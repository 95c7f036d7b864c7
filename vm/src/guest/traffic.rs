//! A transfer over two subflows of the loopback device.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result};
use mptcp_lab::wait;
use socket2::{Domain, Protocol, Socket, Type};

use super::subflows::{self, Subflow};

/// The address from which connections start, and that of the server.
pub const FIRST: Ipv4Addr = Ipv4Addr::LOCALHOST;
/// The address from which the client joins.
pub const OTHER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// How long anything that is normally quick may take. A guest of another architecture
/// may share its one emulated processor with a build.
pub const SOON: Duration = Duration::from_secs(if cfg!(target_arch = "aarch64") {
    60
} else {
    20
});

/// How long a call on a socket may block.
const TICK: Duration = Duration::from_millis(100);

/// A running upload. Dropping it ends it.
pub struct Upload {
    client: Arc<Socket>,
    stop: Arc<AtomicBool>,
    threads: [Option<JoinHandle<()>>; 2],
}

impl Upload {
    /// Connects and sends, with a `pause` after each chunk.
    pub fn start(pause: Duration) -> Result<Self> {
        let listener = socket(FIRST)?;
        listener.listen(8)?;
        let client = socket(FIRST)?;
        client.connect(&listener.local_addr()?).context("connect")?;
        client.set_write_timeout(Some(TICK))?;
        let server = listener.accept().context("accept")?.0;
        server.set_read_timeout(Some(TICK))?;

        let (client, stop) = (Arc::new(client), Arc::new(AtomicBool::new(false)));
        let (sender, until) = (Arc::clone(&client), Arc::clone(&stop));
        let send = std::thread::spawn(move || {
            // Keep the listener: subflows join at the connection's port.
            let _listener = listener;
            let chunk = [0; 16 * 1024];
            while !until.load(Relaxed) && goes_on((&*sender).write(&chunk)) {
                std::thread::sleep(pause);
            }
        });
        let until = Arc::clone(&stop);
        let receive = std::thread::spawn(move || {
            let mut buffer = vec![0; 128 * 1024];
            while !until.load(Relaxed) && goes_on((&server).read(&mut buffer)) {}
        });
        let upload = Self {
            client,
            stop,
            threads: [Some(send), Some(receive)],
        };
        wait::try_until("two subflows", SOON, || match upload.subflows() {
            Ok(subflows) if subflows.len() == 2 => Ok(()),
            other => Err(other),
        })?;
        Ok(upload)
    }

    /// Returns the established subflows of the sending end.
    pub fn subflows(&self) -> Result<Vec<Subflow>> {
        subflows::of(&self.client)
    }

    /// Returns the bytes acked so far on the subflow from `FIRST` and from `OTHER`.
    pub fn acked(&self) -> Result<[u64; 2]> {
        let subflows = self.subflows()?;
        Ok([FIRST, OTHER].map(|local| {
            let of_path = subflows.iter().filter(|subflow| subflow.local == local);
            of_path.map(|subflow| subflow.acked).sum()
        }))
    }

    /// Returns the bytes acked on each during `time` from now on.
    pub fn acked_within(&self, time: Duration) -> Result<[u64; 2]> {
        let before = self.acked()?;
        std::thread::sleep(time);
        let after = self.acked()?;
        Ok([0, 1].map(|path| after[path].saturating_sub(before[path])))
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        for thread in self.threads.iter_mut().filter_map(Option::take) {
            // The thread returns nothing, and a panic was printed before.
            let _ = thread.join();
        }
    }
}

fn socket(address: Ipv4Addr) -> Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::MPTCP))?;
    socket.bind(&SocketAddrV4::new(address, 0).into())?;
    Ok(socket)
}

fn goes_on(result: std::io::Result<usize>) -> bool {
    match result {
        Ok(count) => count > 0,
        Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
    }
}
