#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::os::unix::net::{UnixDatagram, UnixStream};

use super::*;

fn take(path: &Path) -> Result<Claim, String> {
    match Claim::take(Some(path)) {
        Ok(Taken::Socket(claim)) => Ok(claim),
        Ok(Taken::Without(reason)) => panic!("it was asked for: {reason}"),
        Err(error) => Err(format!("{error:#}")),
    }
}

#[test]
fn paths_that_could_become_a_socket() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let say = |path: &Path| check(Purpose::Control, path).map_err(|error| error.to_string());

    assert_eq!(say(&dir.path().join("control.sock")), Ok(()));
    assert_eq!(say(&dir.path().join("a/b/control.sock")), Ok(()));
    assert!(!dir.path().join("a").exists());

    for (path, reason) in [
        (PathBuf::from("control.sock"), "absolute"),
        (dir.path().to_owned(), "is a directory"),
        ("/".into(), "is a directory"),
        (file.join("control.sock"), "not a directory"),
        (dir.path().join("x".repeat(107)), "at most 107 bytes"),
    ] {
        let error = say(&path).unwrap_err();
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn made_with_its_directories_and_gone_with_the_claim() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/b/control.sock");
    let claim = take(&path).unwrap();
    assert_eq!(claim.path, path);
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
    assert_eq!(mode(&path), 0o660);
    assert_eq!(mode(&dir.path().join("a/b")), 0o755);
    UnixStream::connect(&path).unwrap();
    claim.listener().accept().unwrap();
    let waits = claim.listener().accept().unwrap_err();
    assert_eq!(waits.kind(), ErrorKind::WouldBlock);
    drop(claim);
    assert!(!path.exists());
}

#[test]
fn a_living_agent_keeps_it_and_a_dead_one_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control.sock");
    let first = take(&path).unwrap();
    let error = take(&path).unwrap_err();
    assert!(
        error.starts_with("another agent has the control socket"),
        "{error}"
    );
    // The default path is refused, too: a living agent is no reason to do
    // without.
    assert!(Claim::by_default(&path).is_err());
    drop(first);

    // As a killed process leaves it: the file alone.
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let second = take(&path).unwrap();

    // The file is another's by now, so it stays.
    fs::remove_file(&path).unwrap();
    let third = UnixListener::bind(&path).unwrap();
    drop(second);
    assert!(path.exists());
    drop(third);
}

#[test]
fn nothing_but_a_dead_socket_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "precious").unwrap();
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&file, &link).unwrap();
    for path in [&file, &link] {
        let error = take(path).unwrap_err();
        assert!(error.contains("is no socket"), "{error}");
    }
    assert_eq!(fs::read(&file).unwrap(), b"precious");
    assert!(link.exists());

    let datagrams = dir.path().join("datagrams");
    let _socket = UnixDatagram::bind(&datagrams).unwrap();
    let error = take(&datagrams).unwrap_err();
    assert!(error.contains("cannot tell whose socket"), "{error}");
}

#[test]
fn the_agent_can_do_without_the_default_path() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    match Claim::by_default(&file.join("control.sock")).unwrap() {
        Taken::Without(reason) => assert!(reason.contains("Not a directory"), "{reason}"),
        Taken::Socket(claim) => panic!("{claim:?}"),
    }
}

#[test]
fn of_many_at_once_one_has_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control.sock");
    drop(UnixListener::bind(&path).unwrap());
    let takers: Vec<_> = (0..8)
        .map(|_| {
            let path = path.clone();
            std::thread::spawn(move || take(&path))
        })
        .collect();
    let taken: Vec<_> = takers
        .into_iter()
        .map(|taker| taker.join().unwrap())
        .collect();
    assert_eq!(taken.iter().filter(|taken| taken.is_ok()).count(), 1);
}

#[test]
fn dead_sockets_are_removed_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    drop(UnixListener::bind(at("netns-1.sock")).unwrap());
    drop(UnixListener::bind(at("control.sock")).unwrap());
    drop(UnixListener::bind(at("other")).unwrap());
    fs::write(at("file.sock"), "").unwrap();
    let living = take(&at("netns-2.sock")).unwrap();
    let removed = remove_dead_in(dir.path()).unwrap();
    assert_eq!(removed, [at("control.sock"), at("netns-1.sock")]);
    for kept in ["other", "file.sock", "netns-2.sock"] {
        assert!(at(kept).exists(), "{kept}");
    }
    drop(living);
    assert_eq!(remove_dead_in(&at("none")).unwrap(), [] as [PathBuf; 0]);
}

#[test]
fn a_socket_of_http_is_taken_by_the_same_rules() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("metrics.sock");
    drop(UnixListener::bind(&path).unwrap());
    let claim = Claim::take_http(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o660);
    let say = |path: &Path| format!("{:#}", Claim::take_http(path).unwrap_err());
    let taken = say(&path);
    assert!(
        taken.contains("another agent has the HTTP socket"),
        "{taken}"
    );
    assert!(taken.contains("another path with --listen"), "{taken}");
    drop(claim);
    assert!(!path.exists());
    fs::write(&path, "precious").unwrap();
    let file = say(&path);
    assert!(file.contains("is no socket"), "{file}");
    assert_eq!(fs::read(&path).unwrap(), b"precious");
    let whole = say(dir.path());
    assert!(whole.starts_with("--listen unix:/"), "{whole}");
}
