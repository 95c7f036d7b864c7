//! The places of `--listen`, bound and not accepting yet.

use std::net::TcpListener;
use std::os::unix::net::UnixListener;

use anyhow::{Context as _, Result, anyhow, bail};
use mptcp_api::listen::Listen;

use super::socket_file::Claim;

/// How many places there can be.
const MOST: usize = 16;

/// A place at which HTTP is served. Dropping it removes the file of a unix
/// socket.
#[derive(Debug)]
pub struct Listener {
    bound: Bound,
    /// The place, with the port that it has got.
    place: Listen,
}

#[derive(Debug)]
enum Bound {
    Tcp(TcpListener),
    Unix(Claim),
}

/// A second handle on a listener, which does not block.
#[derive(Debug)]
pub enum Socket {
    /// An address and a port.
    Tcp(TcpListener),
    /// A unix socket.
    Unix(UnixListener),
}

impl Listener {
    /// Takes all of `places`.
    ///
    /// # Errors
    /// One cannot be had; the error is one line, and names it.
    pub fn take_all(places: &[Listen]) -> Result<Vec<Self>> {
        if places.len() > MOST {
            bail!(
                "--listen is given {} times: expected at most {MOST} places",
                places.len()
            );
        }
        for (number, place) in places.iter().enumerate() {
            let is_any_port = matches!(place, Listen::Tcp(address) if address.port() == 0);
            if !is_any_port && places[..number].contains(place) {
                bail!("--listen {place} is given twice: leave one out");
            }
        }
        places.iter().map(Self::take).collect()
    }

    fn take(place: &Listen) -> Result<Self> {
        let (bound, place) = match place {
            Listen::Tcp(address) => {
                let listener = TcpListener::bind(address).map_err(|error| {
                    anyhow!(
                        "cannot listen on {address}: {error}; choose another address or port with \
                         --listen"
                    )
                })?;
                listener.set_nonblocking(true)?;
                let place = Listen::Tcp(listener.local_addr()?);
                (Bound::Tcp(listener), place)
            }
            Listen::Unix(path) => (Bound::Unix(Claim::take_http(path)?), place.clone()),
        };
        Ok(Self { bound, place })
    }

    /// Returns the place, with the port that it has got.
    pub fn place(&self) -> &Listen {
        &self.place
    }

    /// Returns a second handle.
    ///
    /// # Errors
    /// Too many open files.
    pub fn socket(&self) -> Result<Socket> {
        let socket = match &self.bound {
            Bound::Tcp(listener) => listener.try_clone().map(Socket::Tcp),
            Bound::Unix(claim) => claim.listener().try_clone().map(Socket::Unix),
        };
        socket.context("cannot serve HTTP")
    }
}

/// Returns a warning if one of `places` can be reached from other hosts.
pub fn open_to_others(places: &[Listen]) -> Option<String> {
    let open = places.iter().filter(|place| match place {
        Listen::Tcp(address) => !address.ip().to_canonical().is_loopback(),
        Listen::Unix(_) => false,
    });
    let open: Vec<String> = open.map(Listen::to_string).collect();
    (!open.is_empty()).then(|| {
        format!(
            "metrics on {} are for everybody who reaches this host: there is neither TLS nor a \
             password (--web.config.file has them)",
            open.join(" and ")
        )
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn places(texts: &[&str]) -> Vec<Listen> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn several_places_are_taken_and_given_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.sock");
        let unix = format!("unix:{}", path.display());
        let taken = Listener::take_all(&places(&["127.0.0.1:0", "127.0.0.1:0", &unix])).unwrap();
        let shown: Vec<String> = taken.iter().map(|one| one.place().to_string()).collect();
        assert!(
            shown[0] != shown[1] && !shown[0].ends_with(":0"),
            "{shown:?}"
        );
        assert_eq!(shown[2], unix);
        let error = Listener::take_all(&places(&[&shown[0]])).unwrap_err();
        let error = format!("{error:#}");
        assert!(
            error.contains(&shown[0]) && error.contains("in use"),
            "{error}"
        );
        drop(taken);
        assert!(!path.exists());
        Listener::take_all(&places(&[&shown[0], &unix])).unwrap();
    }

    #[test]
    fn a_place_that_is_given_twice_is_named() {
        let error = Listener::take_all(&places(&["127.0.0.1:1", "unix:/a", "127.0.0.1:1"]));
        let error = error.unwrap_err().to_string();
        assert!(error.contains("127.0.0.1:1 is given twice"), "{error}");
        let many = vec!["127.0.0.1:0"; 17];
        let error = Listener::take_all(&places(&many)).unwrap_err().to_string();
        assert!(error.contains("at most 16"), "{error}");
    }

    #[test]
    fn only_addresses_that_others_reach_are_warned_of() {
        let closed = ["127.0.0.1:1", "[::1]:1", "[::ffff:127.0.0.1]:1", "unix:/a"];
        assert_eq!(open_to_others(&places(&closed)), None);
        let warning = open_to_others(&places(&["0.0.0.0:1", "127.0.0.1:1", "10.0.0.1:2"]));
        let warning = warning.unwrap();
        assert!(warning.contains("0.0.0.0:1 and 10.0.0.1:2"), "{warning}");
    }
}
