#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use tokio::time::timeout;

use super::*;

const CERT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/web/testdata/cert.pem");
const KEY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/web/testdata/key.pem");
const OTHER: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/src/web/testdata/other-key.pem"
);

/// Returns what reading a file with this text says, without the path.
fn said(text: &str) -> Result<Settings, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("web.yml");
    fs::write(&path, text).unwrap();
    read(&path).0.map_err(|error| {
        let text = format!("{error:#}");
        let path = format!("{}:", path.display());
        text.strip_prefix(&path).unwrap_or(&text).to_owned()
    })
}

#[test]
fn what_cannot_be_used_is_refused_with_line_and_reason() {
    let tls = |cert: &str, key: &str, more: &str| {
        format!("tls_server_config:\n  cert_file: {cert}\n  key_file: {key}\n{more}")
    };
    for (text, expected) in [
        (tls("none.pem", KEY, ""), "2:14: the certificate /"),
        (tls("none.pem", KEY, ""), "No such file"),
        (tls(CERT, "none.pem", ""), "3:13: the key /"),
        (tls(KEY, KEY, ""), "2:14: the certificate"),
        (tls(KEY, KEY, ""), "no certificate in PEM"),
        (tls(CERT, CERT, ""), "3:13: the key"),
        (
            tls(CERT, OTHER, ""),
            "2:14: certificate and key cannot be used",
        ),
        (
            tls(CERT, KEY, "  min_version: TLS10\n"),
            "4:16: the version is `TLS10`: expected TLS12",
        ),
        (
            tls(CERT, KEY, "  min_version: TLS13\n  max_version: TLS12\n"),
            "min_version is above max_version",
        ),
        (
            "basic_auth_users:\n  me: secret\n".to_owned(),
            "2:7: user me: the password is no bcrypt",
        ),
        (
            "basic_auth: {}\n".to_owned(),
            "1:1: unknown field `basic_auth`",
        ),
    ] {
        let why = said(&text).unwrap_err();
        assert!(why.contains(expected), "{text}: {why}");
        assert_eq!(why.lines().count(), 1, "{why}");
    }
    let none = read(Path::new("/nonexistent/web.yml")).0.unwrap_err();
    assert!(
        none.to_string().contains("cannot read --web.config.file"),
        "{none}"
    );
}

#[test]
fn certificate_and_key_make_tls() {
    let text = format!(
        "tls_server_config:\n  cert_file: {CERT}\n  key_file: {KEY}\n  min_version: TLS13\n"
    );
    let settings = said(&text).unwrap();
    assert!(settings.tls.is_some() && settings.passwords.is_none());
    let nothing = said("# nothing\n").unwrap();
    assert!(nothing.tls.is_none() && nothing.passwords.is_none());
}

#[tokio::test]
async fn a_change_is_seen_and_a_mistake_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("web.yml");
    // Relative names are looked for beside the file.
    for (from, to) in [(CERT, "cert.pem"), (KEY, "key.pem")] {
        fs::copy(from, dir.path().join(to)).unwrap();
    }
    let tls = "tls_server_config:\n  cert_file: cert.pem\n  key_file: key.pem\n";
    fs::write(&path, tls).unwrap();
    let web = Web::read(Some(&path)).unwrap();
    assert!(web.guards());
    let (mut in_force, again) = (web.in_force(), Arc::new(Notify::new()));
    let following = tokio::spawn(web.follow(Arc::clone(&again)));
    let change = |in_force: InForce| async move {
        let mut in_force = in_force;
        timeout(Duration::from_secs(20), in_force.changed())
            .await
            .unwrap()
            .unwrap();
    };
    // By itself, as soon as a file that it names differs.
    fs::copy(KEY, dir.path().join("fresh")).unwrap();
    fs::rename(dir.path().join("fresh"), dir.path().join("key.pem")).unwrap();
    change(in_force.clone()).await;
    in_force.mark_unchanged();
    // A mistake is refused, and mended.
    fs::write(&path, "nonsense: 1\n").unwrap();
    again.notify_one();
    tokio::time::sleep(LOOK + Duration::from_millis(500)).await;
    assert!(!in_force.has_changed().unwrap());
    assert!(in_force.borrow().tls.is_some());
    // So is a file that takes TLS away, as one that was emptied.
    fs::write(&path, "").unwrap();
    again.notify_one();
    tokio::time::sleep(LOOK + Duration::from_millis(500)).await;
    assert!(!in_force.has_changed().unwrap());
    assert!(in_force.borrow().tls.is_some());
    fs::write(&path, tls).unwrap();
    change(in_force.clone()).await;
    assert!(in_force.borrow().tls.is_some());
    following.abort();
}

#[test]
fn a_file_takes_neither_tls_nor_passwords_away() {
    let tls = format!("tls_server_config:\n  cert_file: {CERT}\n  key_file: {KEY}\n");
    let hash = bcrypt::hash("secret", 4).unwrap();
    let users = format!("basic_auth_users:\n  me: {hash}\n");
    let both = format!("{tls}{users}");
    for (before, fresh, kept) in [
        (&both[..], "", Some("TLS and the passwords")),
        (&both, &tls, Some("the passwords")),
        (&both, &users, Some("TLS")),
        (&tls, "# nothing\n", Some("TLS")),
        (&tls, &users, Some("TLS")),
        (&users, "basic_auth_users:\n", Some("the passwords")),
        (&both, &both, None),
        (&tls, &both, None),
        ("", &tls, None),
        ("", "", None),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.yml");
        fs::write(&path, before).unwrap();
        let web = Web::read(Some(&path)).unwrap();
        let mut in_force = web.in_force();
        let fresh = said(fresh).unwrap();
        assert_eq!(in_force.borrow().lost_by(&fresh), kept);
        web.put_in_force(fresh, &path);
        assert_eq!(in_force.has_changed().unwrap(), kept.is_none());
        in_force.mark_unchanged();
    }
}
