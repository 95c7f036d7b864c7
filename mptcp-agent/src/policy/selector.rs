//! How a user names a path: the left side of `--weight SELECTOR=N`.
//!
//! Pure: nothing here asks whether a device or an address exists.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net};

/// `IFNAMSIZ`: a device's name, with its terminating zero, fits in this.
const IFNAMSIZ: usize = 16;

/// The forms that error messages offer for a selector that makes no sense.
const FORMS: &str = "a device (eth0), a local address or prefix (10.0.0.0/24, fd00::/64), a \
                     remote one (remote:10.0.0.0/24), id:N, remote-id:N, remote-port:N or default";

/// A path, as the user names it. Selectors that name the same path are equal,
/// however they were spelt: `10.0.0.1`, `10.0.0.1/32` and `::ffff:10.0.0.1` are
/// one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Selector {
    /// Subflows that leave by the device that has this name now.
    Device(String),
    /// Subflows whose local address is in this network, which has no host
    /// bits set and is never v4-mapped.
    Prefix(IpNet),
    /// Subflows whose remote address is in this network, written likewise.
    Remote(IpNet),
    /// Subflows whose local end has this address id (RFC 8684, 3.2).
    LocalId(u8),
    /// Subflows whose remote end has this address id.
    RemoteId(u8),
    /// Subflows whose remote end has this port, 1 to 65535.
    RemotePort(u16),
    /// Every path that no other selector names.
    Default,
}

impl FromStr for Selector {
    type Err = String;

    /// Reads any spelling.
    ///
    /// # Errors
    /// One line that says what is wrong and what is expected.
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "default" {
            return Ok(Self::Default);
        }
        if let Some(id) = text.strip_prefix("id:") {
            return address_id(text, id).map(Self::LocalId);
        }
        if let Some(id) = text.strip_prefix("remote-id:") {
            return address_id(text, id).map(Self::RemoteId);
        }
        if let Some(port) = text.strip_prefix("remote-port:") {
            let port = number(port).filter(|port| *port > 0);
            let wrong = || format!("`{text}`: a port is a number from 1 to 65535");
            return port.map(Self::RemotePort).ok_or_else(wrong);
        }
        if let Some(remote) = text.strip_prefix("remote:") {
            let Some(network) = network(remote) else {
                return Err(format!(
                    "`{text}`: after remote: comes an address or a prefix, as in \
                     remote:10.0.0.0/24"
                ));
            };
            return network.map(Self::Remote);
        }
        if let Some(network) = network(text) {
            return network.map(Self::Prefix);
        }
        device(text).map(Self::Device)
    }
}

impl fmt::Display for Selector {
    /// Writes the canonical spelling, which is also the path's label.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(name) => f.write_str(name),
            Self::Prefix(net) => fmt_network(net, f),
            Self::Remote(net) => {
                f.write_str("remote:")?;
                fmt_network(net, f)
            }
            Self::LocalId(id) => write!(f, "id:{id}"),
            Self::RemoteId(id) => write!(f, "remote-id:{id}"),
            Self::RemotePort(port) => write!(f, "remote-port:{port}"),
            Self::Default => f.write_str("default"),
        }
    }
}

/// Writes a single address without its length.
fn fmt_network(net: &IpNet, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if net.prefix_len() == net.max_prefix_len() {
        write!(f, "{}", net.addr())
    } else {
        write!(f, "{net}")
    }
}

/// Reads an address or a prefix; `None` if `text` is neither, nor meant as one.
fn network(text: &str) -> Option<Result<IpNet, String>> {
    if text.contains('/') {
        return Some(prefix(text));
    }
    let address: IpAddr = text.parse().ok()?;
    Some(Ok(IpNet::from(address.to_canonical())))
}

fn address_id(text: &str, id: &str) -> Result<u8, String> {
    number(id).ok_or_else(|| format!("`{text}`: an address id is a number from 0 to 255"))
}

/// Reads digits only: `u8::from_str` would also take `+2`.
fn number<T: FromStr>(text: &str) -> Option<T> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

fn prefix(text: &str) -> Result<IpNet, String> {
    let net = text
        .parse::<IpNet>()
        .map_err(|_| format!("`{text}` is not a network: write it as 10.0.0.0/24 or fd00::/64"))?;
    let net = unmapped(net);
    let network = net.trunc();
    if net != network {
        return Err(format!(
            "`{text}` has host bits set: the network is {network}, the address alone {}",
            net.addr()
        ));
    }
    Ok(network)
}

/// Turns `::ffff:10.0.0.0/104` into `10.0.0.0/8`, because the socket's family
/// does not matter.
fn unmapped(net: IpNet) -> IpNet {
    let IpNet::V6(v6) = net else { return net };
    let v4: Option<Ipv4Addr> = v6.addr().to_ipv4_mapped();
    v4.zip(v6.prefix_len().checked_sub(96))
        .and_then(|(address, len)| Ipv4Net::new(address, len).ok())
        .map_or(net, IpNet::V4)
}

fn device(text: &str) -> Result<String, String> {
    let fault = if text.is_empty() {
        "a selector is missing".to_owned()
    } else if text.contains('%') && text.contains(':') {
        format!("`{text}`: an address is named without its device (no %)")
    } else if text.contains(':') {
        format!("`{text}` is neither an address nor a known kind of selector")
    } else if text.bytes().all(|byte| byte.is_ascii_digit()) {
        format!("`{text}` is a bare number: did you mean id:{text} or remote-id:{text}?")
    } else if text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.')
    {
        format!("`{text}` looks like an IPv4 address, but is none")
    } else if text.len() >= IFNAMSIZ {
        format!("`{text}` is too long for a device's name (15 bytes at most)")
    } else if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        format!("`{}` cannot be a device's name", text.escape_debug())
    } else {
        return Ok(text.to_owned());
    };
    Err(format!("{fault}; expected {FORMS}"))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn accepted_with_its_canonical_spelling() {
        for (text, canonical) in [
            ("eth0", "eth0"),
            ("eth0.100", "eth0.100"),
            ("enp0s31f6", "enp0s31f6"),
            ("fd00", "fd00"),
            ("a=b", "a=b"),
            ("123456789abcdef", "123456789abcdef"),
            ("10.0.0.0/24", "10.0.0.0/24"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("10.1.2.3", "10.1.2.3"),
            ("10.1.2.3/32", "10.1.2.3"),
            ("fd00::/64", "fd00::/64"),
            ("fd00:0:0::/64", "fd00::/64"),
            ("FD00::1", "fd00::1"),
            ("fd00::1/128", "fd00::1"),
            ("::ffff:10.0.0.1", "10.0.0.1"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::/0", "::/0"),
            ("id:0", "id:0"),
            ("id:007", "id:7"),
            ("id:255", "id:255"),
            ("remote-id:1", "remote-id:1"),
            ("remote-port:443", "remote-port:443"),
            ("remote-port:00065535", "remote-port:65535"),
            ("remote:10.0.0.0/24", "remote:10.0.0.0/24"),
            ("remote:10.1.2.3/32", "remote:10.1.2.3"),
            ("remote:::ffff:10.1.2.3", "remote:10.1.2.3"),
            ("remote:FD00::/64", "remote:fd00::/64"),
            ("default", "default"),
        ] {
            let selector: Selector = text.parse().unwrap();
            assert_eq!(selector.to_string(), canonical, "{text}");
            assert_eq!(canonical.parse::<Selector>().unwrap(), selector, "{text}");
        }
    }

    #[test]
    fn refused_with_a_reason() {
        for (text, reason) in [
            ("", "missing"),
            ("id:", "0 to 255"),
            ("id:256", "0 to 255"),
            ("id:-1", "0 to 255"),
            ("id:+1", "0 to 255"),
            ("remote-id:x", "0 to 255"),
            ("remote-port:", "1 to 65535"),
            ("remote-port:0", "1 to 65535"),
            ("remote-port:65536", "1 to 65535"),
            ("remote-port:+1", "1 to 65535"),
            ("remote-port:https", "1 to 65535"),
            ("remote:", "comes an address or a prefix"),
            ("remote:eth0", "comes an address or a prefix"),
            ("remote:10.0.0.1/24", "the network is 10.0.0.0/24"),
            ("10.0.0.1/24", "the network is 10.0.0.0/24"),
            ("fd00::1/64", "the network is fd00::/64"),
            ("::ffff:10.0.0.1/120", "the network is 10.0.0.0/24"),
            ("10.0.0.0/33", "not a network"),
            ("10.0.0.0/", "not a network"),
            ("eth0/1", "not a network"),
            ("10.0.0", "looks like an IPv4 address"),
            ("10.0.0.256", "looks like an IPv4 address"),
            ("2", "did you mean id:2"),
            ("fe80::1%eth0", "without its device"),
            ("eth0:1", "neither an address nor"),
            ("device:eth0", "neither an address nor"),
            ("0123456789abcdef", "too long"),
            ("eth 0", "cannot be a device's name"),
            ("eth0\n", "cannot be a device's name"),
        ] {
            let error = text.parse::<Selector>().unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
            assert!(!error.contains('\n'), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_its_result_round_trips(text in "\\PC{0,24}") {
            if let Ok(selector) = text.parse::<Selector>() {
                prop_assert_eq!(selector.to_string().parse::<Selector>(), Ok(selector));
            }
        }

        #[test]
        fn any_network_is_one_selector(bits: u32, len in 0_u8..=32) {
            let net = Ipv4Net::new(Ipv4Addr::from_bits(bits), len).unwrap().trunc();
            let plain: Selector = format!("{net}").parse().unwrap();
            let mapped: Selector =
                format!("::ffff:{}/{}", net.addr(), len + 96).parse().unwrap();
            prop_assert_eq!(plain, mapped);
        }
    }
}
