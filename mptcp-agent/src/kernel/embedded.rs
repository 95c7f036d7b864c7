//! The eBPF object in this file: whether it was built with the agent's layout.

use anyhow::{Context as _, Result, ensure};
use mptcp_common::abi::{ABI, ABI_SYMBOL};
use object::{Object as _, ObjectSection as _, ObjectSymbol as _};

/// Checks that the programs and the agent mean the same by each map.
///
/// A plain `cargo build` embeds the object of an earlier `cargo xtask build`,
/// whose types may have been others.
///
/// # Errors
/// The object has another layout, or none.
pub fn check(elf: &[u8]) -> Result<()> {
    let found = layout(elf).context("the embedded eBPF object cannot be read")?;
    ensure!(
        found == ABI,
        "the embedded eBPF object has the layout {found:016x}, the agent {ABI:016x}: build both \
         with `cargo xtask build`"
    );
    Ok(())
}

/// Reads the value of the object's global [`ABI_SYMBOL`].
fn layout(elf: &[u8]) -> Result<u64> {
    let file = object::File::parse(elf)?;
    let symbol = file
        .symbols()
        .find(|symbol| symbol.name() == Ok(ABI_SYMBOL))
        .with_context(|| format!("it has no {ABI_SYMBOL}"))?;
    let section = symbol.section_index().context("its section is missing")?;
    let bytes = file
        .section_by_index(section)?
        .data_range(symbol.address(), size_of::<u64>() as u64)?
        .context("its section is too short")?;
    Ok(u64::from_ne_bytes(bytes.try_into()?))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::collections::BTreeSet;

    use mptcp_common::names;

    use super::super::load::OBJECT;
    use super::*;
    use crate::host::skip::skip;

    /// Returns the names of the symbols in a section of the object.
    fn symbols_in(section: &str) -> BTreeSet<String> {
        let file = object::File::parse(OBJECT).unwrap();
        let index = file.section_by_name(section).unwrap().index();
        file.symbols()
            .filter(|symbol| symbol.section_index() == Some(index))
            .filter_map(|symbol| symbol.name().ok().map(str::to_owned))
            .filter(|name| !name.is_empty())
            .collect()
    }

    #[test]
    fn each_map_and_program_is_listed_by_name() {
        if OBJECT.is_empty() {
            skip("this build has no eBPF object: use `cargo xtask test`");
            return;
        }
        let listed = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        let mut maps: BTreeSet<String> = listed(names::map::ALL);
        // aya-log's own map has the same name in every object that logs.
        maps.insert("AYA_LOGS".to_owned());
        assert_eq!(symbols_in("maps"), maps);
        let file = object::File::parse(OBJECT).unwrap();
        let symbols: BTreeSet<&str> = file.symbols().filter_map(|one| one.name().ok()).collect();
        for program in names::program::ALL {
            assert!(symbols.contains(program), "{program}");
        }
    }

    #[test]
    fn an_object_with_another_layout_is_refused() {
        if OBJECT.is_empty() {
            skip("this build has no eBPF object: use `cargo xtask test`");
            return;
        }
        check(OBJECT).unwrap();
        let mut other = OBJECT.to_vec();
        let own = ABI.to_ne_bytes();
        let at = other.windows(own.len()).position(|bytes| bytes == own);
        other[at.unwrap()] ^= 1;
        let error = check(&other).unwrap_err().to_string();
        assert!(error.contains("cargo xtask build"), "{error}");
    }

    #[test]
    fn what_is_no_object_is_refused() {
        assert!(check(b"no ELF file").is_err());
    }
}
