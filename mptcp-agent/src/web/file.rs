//! The text of the file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow, ensure};
use serde::Deserialize;
use serde_saphyr::Spanned;

use super::passwords::Passwords;
use super::{LONGEST, Settings, tls};
use crate::host::file;

/// The keys, by the names that the exporter toolkit gives them.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    tls_server_config: Option<Tls>,
    basic_auth_users: Option<BTreeMap<String, Spanned<String>>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tls {
    cert_file: Spanned<String>,
    key_file: Spanned<String>,
    min_version: Option<Spanned<String>>,
    max_version: Option<Spanned<String>>,
}

/// A file that was read, whose values are not checked yet.
#[derive(Debug)]
pub(super) struct File {
    path: PathBuf,
    keys: Keys,
    /// The files with the certificate and the key.
    named: Vec<PathBuf>,
}

/// Reads the file.
///
/// # Errors
/// It cannot be read, or has another form; one line.
pub(super) fn read(path: &Path) -> Result<File> {
    let shown = path.display();
    let cannot =
        |error: &dyn std::fmt::Display| anyhow!("cannot read --web.config.file {shown}: {error}");
    let bytes = file::read_whole(path, LONGEST).map_err(|error| cannot(&error))?;
    let text = String::from_utf8(bytes).map_err(|_| cannot(&"it is no UTF-8 text"))?;
    let keys = parse(&text).map_err(|why| anyhow!("{shown}:{why}"))?;
    let directory = path.parent().unwrap_or(Path::new(""));
    let named = keys.tls_server_config.iter().flat_map(|tls| {
        // The toolkit, too, takes paths relative to the file that names them.
        [&tls.cert_file, &tls.key_file].map(|file| directory.join(&file.value))
    });
    Ok(File {
        path: path.to_owned(),
        named: named.collect(),
        keys,
    })
}

/// Returns the keys, or `LINE:COLUMN: what is wrong`.
fn parse(text: &str) -> Result<Keys, String> {
    // An empty file, or one with comments alone, says nothing.
    let options = serde_saphyr::options! { with_snippet: false };
    let parsed = serde_saphyr::from_str_with_options::<Option<Keys>>(text, options);
    parsed.map(Option::unwrap_or_default).map_err(|error| {
        let message = error.to_string().replace('\n', " ");
        let place = error.location().map(|at| (at.line(), at.column()));
        let (line, column) = place.unwrap_or((1, 1));
        let message = message
            .strip_suffix(&format!(" at line {line}, column {column}"))
            .unwrap_or(&message);
        // A key given twice has an advice for programmers.
        let message = message.split(", set DuplicateKeyPolicy").next();
        format!("{line}:{column}: {}", message.unwrap_or_default())
    })
}

impl File {
    /// Returns the files that it names.
    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.named.iter().map(PathBuf::as_path)
    }

    /// Checks the values, and reads certificate and key.
    ///
    /// # Errors
    /// One line with the place and the reason.
    pub(super) fn settings(self) -> Result<Settings> {
        let tls = match (&self.keys.tls_server_config, &self.named[..]) {
            (Some(tls), [cert, key]) => Some(self.tls(tls, cert, key)?),
            _ => None,
        };
        let users = self.keys.basic_auth_users.iter().flatten();
        let mut known = BTreeMap::new();
        for (user, hash) in users {
            let wrong = |why: &str| self.wrong(hash, &format!("user {user}: {why}"));
            ensure!(!user.contains(':'), wrong("a name has no colon"));
            known.insert(
                user.clone(),
                Passwords::hash(&hash.value).map_err(|why| wrong(&why))?,
            );
        }
        let passwords = (!known.is_empty())
            .then(|| Passwords::new(known))
            .transpose()?;
        Ok(Settings { tls, passwords })
    }

    fn tls(&self, keys: &Tls, cert: &Path, key: &Path) -> Result<tokio_rustls::TlsAcceptor> {
        let version = |value: &Option<Spanned<String>>| {
            let value = value.as_ref();
            let version =
                value.map(|text| tls::version(&text.value).map_err(|why| self.wrong(text, &why)));
            version.transpose()
        };
        let (least, most) = (version(&keys.min_version)?, version(&keys.max_version)?);
        let chain = tls::chain(cert).map_err(|why| self.wrong(&keys.cert_file, &why))?;
        let key = tls::key(key).map_err(|why| self.wrong(&keys.key_file, &why))?;
        tls::acceptor(least, most, chain, key).map_err(|why| self.wrong(&keys.cert_file, &why))
    }

    fn wrong(&self, at: &Spanned<String>, why: &str) -> anyhow::Error {
        let (line, column) = (at.referenced.line(), at.referenced.column());
        anyhow!("{}:{line}:{column}: {why}", self.path.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_has_its_place() {
        for (text, expected) in [
            (
                "tls_server_config:\n  cert_file: a\n  foo: b\n",
                "3:3: unknown field `foo`",
            ),
            (
                "tls_server_config:\n  cert_file: [a]\n",
                "2:14: expected string",
            ),
            (
                "tls_server_config:\n  cert_file: a\n",
                "2:3: missing field `key_file`",
            ),
            (
                "basic_auth_users:\n  me: x\n  me: y\n",
                "3:3: duplicate mapping key: me",
            ),
            ("basic_auth_users:\n\tme: x\n", "2:2: "),
            ("- a\n", "1:1: expected mapping"),
        ] {
            let said = parse(text).expect_err("it is wrong");
            assert!(said.starts_with(expected), "{text:?}: {said}");
            assert!(!said.contains(" at line "), "{said}");
            assert!(!said.contains("Policy"), "{said}");
        }
    }

    #[test]
    fn a_file_may_say_nothing() {
        for text in [
            "",
            "# nothing\n",
            "basic_auth_users:\n",
            "tls_server_config:\n",
        ] {
            let keys = parse(text).expect("it is right");
            assert!(keys.tls_server_config.is_none() && keys.basic_auth_users.is_none());
        }
    }
}
