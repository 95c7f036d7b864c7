//! Addresses as maps and messages have them: sixteen bytes, IPv4 as
//! `::ffff:a.b.c.d` (RFC 4291, 2.5.5.2).

use core::net::{IpAddr, Ipv6Addr};

/// Returns the sixteen bytes of an address.
#[must_use]
pub const fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

/// Returns the address of sixteen bytes: the reverse of [`octets`], except that
/// a `::ffff:a.b.c.d` always comes back as IPv4.
#[must_use]
pub const fn address(octets: [u8; 16]) -> IpAddr {
    Ipv6Addr::from_octets(octets).to_canonical()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipv4_is_mapped_and_comes_back() {
        let v4 = IpAddr::from([192, 0, 2, 1]);
        assert_eq!(octets(v4), crate::abi::mapped_v4([192, 0, 2, 1]));
        assert_eq!(address(octets(v4)), v4);
        let mapped = IpAddr::from(octets(v4));
        assert!(mapped.is_ipv6());
        assert_eq!(address(octets(mapped)), v4);
        let v6 = IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0xffff, 0xc000, 0x201]);
        assert_eq!(address(octets(v6)), v6);
    }
}
