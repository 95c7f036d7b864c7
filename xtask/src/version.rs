//! Reads versions as tools print them.

/// Returns (major, minor) of a version like `1.97.0-nightly`.
pub fn version_key(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split(['.', '-']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_versions_by_number() {
        assert!(version_key("1.100.0") > version_key("1.97.0-nightly"));
        assert_eq!(version_key("0.13.0"), Some((0, 13)));
        assert_eq!(version_key("x"), None);
    }
}
