#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::os::unix::fs::symlink;

use mptcp_api::saved::Account;
use tempfile::TempDir;

use super::*;

/// A directory that does not exist yet, and its file.
struct Place {
    parent: TempDir,
    names: Names,
}

impl Place {
    fn new() -> Self {
        let parent = tempfile::tempdir().unwrap();
        let names = Names::choose(Some(&parent.path().join("state")));
        assert_eq!(names.file, parent.path().join("state/quota.json"));
        Self { parent, names }
    }

    /// Has an agent start, save these paths one after the other, and end.
    fn save(&self, paths: &[&str]) -> Found {
        let (mut store, found) = Store::at(self.names.clone(), true);
        for path in paths {
            assert!(store.save(saved::encode(&of(path)).unwrap()));
            wait(&mut store);
            assert!(store.is_saved(), "{:?}", store.failure());
        }
        store.finish(None);
        found
    }

    fn found(&self) -> Found {
        self.save(&[])
    }

    fn path(&self, end: &str) -> PathBuf {
        self.names.with(end)
    }

    fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.names.directory()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }
}

/// Waits until the thread has answered.
fn wait(store: &mut Store) {
    let start = Instant::now();
    while store.waiting > 0 {
        assert!(start.elapsed() < Duration::from_secs(20));
        thread::yield_now();
        store.poll();
    }
}

fn of(path: &str) -> Saved {
    let account = Account {
        path: path.to_owned(),
        end: 1,
        ..Account::default()
    };
    Saved {
        boot: boot::id(),
        accounts: vec![account],
    }
}

fn path_of(found: &Found) -> Option<&str> {
    let saved = found.saved.as_ref()?;
    Some(&saved.accounts[0].path)
}

#[test]
fn what_one_agent_saves_the_next_one_finds() {
    let place = Place::new();
    assert_eq!(path_of(&place.save(&["a", "b"])), None);
    assert_eq!(place.files(), ["quota.json", "quota.json.old"]);
    assert_eq!(path_of(&place.found()), Some("b"));
    assert_eq!(place.found().set_aside, 0);
    assert_eq!(place.files(), ["quota.json", "quota.json.old"]);
}

#[test]
fn without_quotas_nothing_is_made_until_there_is_one() {
    let place = Place::new();
    let (mut store, found) = Store::at(place.names.clone(), false);
    assert_eq!((path_of(&found), store.is_saved()), (None, false));
    assert!(!place.names.directory().exists());
    assert!(store.save(saved::encode(&of("a")).unwrap()));
    wait(&mut store);
    assert!(store.is_saved());
    store.finish(Some(saved::encode(&of("b")).unwrap()));
    assert_eq!(path_of(&place.found()), Some("b"));
    // The file that is there is read by an agent without quotas, too.
    let (store, found) = Store::at(place.names.clone(), false);
    assert_eq!(path_of(&found), Some("b"));
    store.finish(None);
}

#[test]
fn a_torn_file_is_set_aside_and_the_earlier_one_counts() {
    let place = Place::new();
    place.save(&["a", "b"]);
    let whole = fs::read(place.path("")).unwrap();
    fs::write(place.path(""), &whole[..whole.len() / 2]).unwrap();
    let found = place.found();
    assert_eq!((path_of(&found), found.set_aside), (Some("a"), 1));
    assert_eq!(place.files(), ["quota.json.bad-1", "quota.json.old"]);
    let aside = fs::read(place.path(".bad-1")).unwrap();
    assert_eq!(aside, whole[..whole.len() / 2], "nothing of it is lost");
    // The next save does not lose the earlier one.
    assert_eq!(path_of(&place.save(&["c"])), Some("a"));
    assert_eq!(path_of(&place.found()), Some("c"));
    assert!(place.path(".old").exists());
}

#[test]
fn files_that_are_not_the_agent_s_are_set_aside() {
    let place = Place::new();
    for (number, content) in [
        &b"{\"version\":0,\"checksum\":\"\",\"saved\":{}}"[..],
        b"{\"version\":2}",
        b"something else",
        b"",
        &[0; 4096],
    ]
    .into_iter()
    .enumerate()
    {
        place.save(&["a"]);
        fs::remove_file(place.path(".old")).unwrap_or_default();
        fs::write(place.path(""), content).unwrap();
        let found = place.found();
        assert_eq!((path_of(&found), found.set_aside), (None, 1));
        let aside = place.path(&format!(".bad-{}", number + 1));
        assert_eq!(fs::read(aside).unwrap(), content);
        assert!(!place.path("").exists());
    }
}

#[test]
fn what_is_no_file_is_set_aside_and_no_link_is_followed() {
    let place = Place::new();
    fs::create_dir_all(place.path("")).unwrap();
    let found = place.found();
    assert_eq!((path_of(&found), found.set_aside), (None, 1));
    let elsewhere = place.parent.path().join("elsewhere");
    fs::write(&elsewhere, saved::encode(&of("x")).unwrap()).unwrap();
    symlink(&elsewhere, place.path("")).unwrap();
    let found = place.found();
    assert_eq!((path_of(&found), found.set_aside), (None, 1));
    // The file that is written first.
    symlink(&elsewhere, place.path(".new")).unwrap();
    let (mut store, _) = Store::at(place.names.clone(), true);
    assert!(store.save(saved::encode(&of("a")).unwrap()));
    wait(&mut store);
    assert!(store.failure().is_some());
    assert_eq!(
        fs::read(&elsewhere).unwrap(),
        saved::encode(&of("x")).unwrap()
    );
    // It recovers once the reason is gone.
    fs::remove_file(place.path(".new")).unwrap();
    assert!(store.save(saved::encode(&of("a")).unwrap()));
    wait(&mut store);
    assert!(store.is_saved() && store.failure().is_none());
    store.finish(None);
}

#[test]
fn a_place_that_cannot_be_written_to_is_told_and_the_agent_goes_on() {
    // Root may write to a read-only directory, but not below a file.
    let place = Place::new();
    fs::write(place.names.directory(), "").unwrap();
    let (mut store, found) = Store::at(place.names.clone(), true);
    assert_eq!((path_of(&found), found.set_aside), (None, 0));
    assert!(store.save(saved::encode(&of("a")).unwrap()));
    wait(&mut store);
    assert!(!store.is_saved() && store.failure().is_some());
    fs::remove_file(place.names.directory()).unwrap();
    store.finish(Some(saved::encode(&of("b")).unwrap()));
    assert_eq!(path_of(&place.found()), Some("b"));
}

#[test]
fn two_agents_do_not_use_the_same_file() {
    let place = Place::new();
    place.save(&["a"]);
    let (first, _) = Store::at(place.names.clone(), true);
    let (mut second, found) = Store::at(place.names.clone(), true);
    assert_eq!(path_of(&found), None);
    assert!(second.failure().unwrap().contains("another agent holds"));
    assert!(!second.save(saved::encode(&of("b")).unwrap()));
    first.finish(None);
    second.finish(Some(saved::encode(&of("b")).unwrap()));
    assert_eq!(path_of(&place.found()), Some("a"));
}

#[test]
fn a_name_with_a_cookie_holds_for_one_boot() {
    let mut place = Place::new();
    place.names.volatile = true;
    place.save(&["a"]);
    assert_eq!(path_of(&place.found()), Some("a"));
    let other = Saved {
        boot: "another".to_owned(),
        ..of("a")
    };
    fs::write(place.path(""), saved::encode(&other).unwrap()).unwrap();
    let found = place.found();
    assert_eq!((path_of(&found), found.set_aside), (None, 1));
    fs::write(place.path(""), saved::encode(&other).unwrap()).unwrap();
    place.names.volatile = false;
    assert_eq!(path_of(&place.found()), Some("a"));
}

#[test]
fn a_crash_while_it_saves_leaves_the_earlier_content() {
    let place = Place::new();
    place.save(&["a", "b"]);
    // Killed before the file had its name, and when the link was made.
    fs::write(place.path(".new"), "half").unwrap();
    fs::hard_link(place.path(""), place.path(".link")).unwrap();
    fs::write(place.path(".lock"), "").unwrap();
    assert_eq!(path_of(&place.found()), Some("b"));
    place.save(&["c"]);
    assert_eq!(path_of(&place.found()), Some("c"));
    // Killed between the two names.
    fs::remove_file(place.path("")).unwrap();
    assert_eq!(path_of(&place.found()), Some("b"));
}

#[test]
fn the_directory_is_checked_first() {
    let place = Place::new();
    let error = check(Path::new("state")).unwrap_err().to_string();
    assert!(error.contains("--state-dir state is relative"), "{error}");
    assert!(check(place.names.directory()).is_ok());
    fs::write(place.names.directory(), "").unwrap();
    let error = check(place.names.directory()).unwrap_err().to_string();
    assert!(error.contains("is no directory"), "{error}");
}
