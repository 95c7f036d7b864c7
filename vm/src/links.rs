//! Reads from a program's file which loader and libraries the program needs. A program
//! of another architecture cannot be asked for them, because this machine cannot run
//! its loader.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use object::Endianness;
use object::elf::{DT_NEEDED, FileHeader64};
use object::read::elf::{FileHeader as _, ProgramHeader as _};

/// The loader and the libraries that a file names.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Links {
    /// The path of the loader; none in a library, or in a static program.
    pub loader: Option<PathBuf>,
    /// The names of libraries.
    pub needed: Vec<String>,
}

impl Links {
    /// Reads them from a program or a library.
    ///
    /// # Errors
    /// The file cannot be read, or is not an ELF file with 64 bits.
    pub fn of(file: &Path) -> Result<Self> {
        let data = fs::read(file).with_context(|| format!("read {}", file.display()))?;
        Self::parse(&data).with_context(|| format!("read the ELF file {}", file.display()))
    }

    fn parse(data: &[u8]) -> Result<Self> {
        let header = FileHeader64::<Endianness>::parse(data)?;
        let endian = header.endian()?;
        let mut links = Self::default();
        for segment in header.program_headers(endian, data)? {
            if let Some(loader) = segment.interpreter(endian, data)? {
                links.loader = Some(str::from_utf8(loader)?.into());
            }
        }
        let table = header.sections(endian, data)?.dynamic_table(endian, data)?;
        for entry in table.iter().filter(|entry| entry.tag == DT_NEEDED) {
            let name = str::from_utf8(table.string(entry)?)?;
            links.needed.push(name.to_owned());
        }
        Ok(links)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_names_its_loader_and_libraries() -> Result<()> {
        let own = Links::of(&std::env::current_exe()?)?;
        let loader = own.loader.context("a loader")?;
        assert!(
            loader.starts_with("/lib") || loader.starts_with("/lib64"),
            "{loader:?}"
        );
        assert!(
            own.needed.iter().any(|name| name == "libc.so.6"),
            "{:?}",
            own.needed
        );
        let error = Links::parse(b"#!/bin/sh").expect_err("it is a script");
        assert!(!error.to_string().is_empty());
        Ok(())
    }
}
