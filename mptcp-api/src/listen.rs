//! A place where the agent serves HTTP: an address, or the path of a unix socket.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// The text in front of a unix socket's path.
const UNIX: &str = "unix:";

/// One value of `--listen`: `ADDR:PORT` or `unix:PATH`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Listen {
    /// An address and a port; port 0 is any free one.
    Tcp(SocketAddr),
    /// The absolute path of a unix socket.
    Unix(PathBuf),
}

impl Listen {
    /// Returns the URL of `page`, such as `metrics`, or the name of a unix socket,
    /// which has no URL. `tls` says whether addresses have TLS; a unix socket never
    /// has.
    pub fn url(&self, tls: bool, page: &str) -> String {
        match self {
            Self::Tcp(address) if tls => format!("https://{address}/{page}"),
            Self::Tcp(address) => format!("http://{address}/{page}"),
            Self::Unix(_) => self.to_string(),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "{UNIX}{}", path.display()),
        }
    }
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some(path) = text.strip_prefix(UNIX) else {
            let address = text.parse().map(Self::Tcp);
            return address.map_err(|_| {
                "expected ADDR:PORT, such as 127.0.0.1:8684, or unix:PATH".to_owned()
            });
        };
        let path = PathBuf::from(path);
        if !path.is_absolute() {
            let why = "expected an absolute path, such as unix:/run/mptcp-agent/metrics.sock";
            return Err(why.to_owned());
        }
        Ok(Self::Unix(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_absolute_paths_are_read_and_written_alike() {
        for text in ["127.0.0.1:0", "[::1]:8684", "unix:/run/a/b.sock"] {
            let listen: Listen = text.parse().expect("a place");
            assert_eq!(listen.to_string(), text);
        }
        for (text, part) in [
            ("8684", "ADDR:PORT"),
            ("localhost:8684", "ADDR:PORT"),
            ("unix:run.sock", "absolute"),
            ("unix:", "absolute"),
            ("/run/a.sock", "unix:PATH"),
        ] {
            let error = text.parse::<Listen>().expect_err("no place");
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn a_unix_socket_has_no_tls() {
        let urls = |text: &str| {
            let listen: Listen = text.parse().expect("a place");
            [false, true].map(|tls| listen.url(tls, "metrics"))
        };
        assert_eq!(
            urls("[::1]:1"),
            ["http://[::1]:1/metrics", "https://[::1]:1/metrics"]
        );
        assert_eq!(urls("unix:/run/a.sock"), ["unix:/run/a.sock"; 2]);
    }
}
