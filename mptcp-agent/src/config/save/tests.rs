#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::os::unix::fs::symlink;

use super::*;

/// Saves the policy of the flags `set` in a file `f`, under an agent that has the
/// flags `run`.
fn saved(text: &str, set: &str, run: &str) -> Result<String, String> {
    let policy = Policy::new(crate::cli::flags_of(set).policy).unwrap();
    let flags = crate::cli::flags_of(&format!("--config f {run}"));
    edit(&flags, "f", text, &policy).map_err(|wrong| wrong.to_string())
}

const TEXT: &str = r#"# Of the uplinks.
max-connections = 100 # many

[path.lte] # the modem
device = "wwan0"
limit = "20mbit" # of the plan

[path.fibre]
address = "10.0.0.0/24"

[policy.default]
policy = "weighted" # by shares
# Four to one.
weights = { lte = 1, fibre = 4 } # for now
mode = "spill"

[policy.bulk]
policy = "overflow"
prefer = ["fibre"]
"#;

#[test]
fn only_what_differs_changes_and_comments_stay() {
    let set = "--policy weighted --weighted-mode spill --weight wwan0=2 --weight 10.0.0.0/24=4 \
               --limit wwan0=20mbit";
    let expected = TEXT.replace("lte = 1", "lte = 2");
    assert_eq!(saved(TEXT, set, "").unwrap(), expected);
    // The same again changes nothing.
    assert_eq!(saved(&expected, set, "").unwrap(), expected);
}

#[test]
fn settings_of_the_policy_before_go() {
    let set = "--policy overflow --prefer wwan0 --prefer eth9 --limit wwan0=20mbit";
    let after = saved(TEXT, set, "").unwrap();
    assert!(
        after.contains("policy = \"overflow\" # by shares"),
        "{after}"
    );
    assert!(after.contains("prefer = [\"lte\", \"eth9\"]"), "{after}");
    assert!(
        !after.contains("weights") && !after.contains("mode ="),
        "{after}"
    );
    let set = "--policy redundant --redundant-copies 3 --redundant-key /k";
    let after = saved(TEXT, set, "").unwrap();
    assert!(after.contains("copies = 3\nkey = \"/k\"\n"), "{after}");
    // The port is the default one; the limit is no longer wanted.
    assert!(
        !after.contains("port") && !after.contains("limit"),
        "{after}"
    );
    assert!(after.contains("[policy.bulk]"), "{after}");
}

#[test]
fn an_empty_file_gets_all_that_is_needed() {
    let set = "--policy weighted --weight eth0=4 --weight remote:10.0.0.0/8=2 --weight default=0 \
               --limit wwan0=20mbit --limit id:2=1mbit --limit default=5mbit \
               --limit remote-id:3=none --limit remote-port:443=2mbit --limit fd00::/64=1gbit --leave-out wwan0=loss:5%";
    let after = saved("", set, "").unwrap();
    assert_eq!(
        after,
        "[policy.default]\npolicy = \"weighted\"\n\
         weights = { eth0 = 4, \"remote:10.0.0.0/8\" = 2, default = 0 }\n\
         \n[path.wwan0]\ndevice = \"wwan0\"\nlimit = \"20mbit\"\nleave-out = \"loss:5%\"\n\
         \n[path.id-2]\nid = 2\nlimit = \"1mbit\"\n\
         \n[path.remote-id-3]\nremote-id = 3\nlimit = \"none\"\n\
         \n[path.remote-port-443]\nremote-port = 443\nlimit = \"2mbit\"\n\
         \n[path.fd00---64]\naddress = \"fd00::/64\"\nlimit = \"1gbit\"\n\
         \n[path.default]\nlimit = \"5mbit\"\n"
    );
}

#[test]
fn a_path_that_is_used_is_no_longer_on_standby() {
    let text = "[path.lte]\ndevice = \"wwan0\"\nstandby = true\n[policy.default]\n\
                policy = \"weighted\"\n";
    let standby = saved(text, "--policy weighted --weight wwan0=0", "").unwrap();
    assert!(standby.contains("standby = true"), "{standby}");
    for set in [
        "--policy weighted --weight wwan0=2",
        "--policy weighted",
        "--policy overflow --prefer eth0",
    ] {
        let after = saved(text, set, "").unwrap();
        assert!(!after.contains("standby"), "{set}: {after}");
    }
}

#[test]
fn what_the_flags_overrule_cannot_be_saved() {
    let wrong = saved(
        TEXT,
        "--policy weighted --weight wwan0=2",
        "--weight eth0=4",
    )
    .unwrap_err();
    assert!(wrong.contains("flags that take precedence"), "{wrong}");
    // Other flags do not matter.
    assert!(saved(TEXT, "--policy default", "--max-connections 4").is_ok());
}

#[test]
fn a_file_with_a_mistake_is_not_edited() {
    let wrong = saved("listen = 1", "--policy default", "").unwrap_err();
    assert!(wrong.starts_with("f:1:10: wrong kind of value"), "{wrong}");
    // A key that is no table can be neither edited nor read.
    assert!(saved("path = 1", "--policy default", "").is_err());
    // Inline tables can.
    let inline = "policy = { default = { policy = \"default\" } }\n";
    let after = saved(inline, "--policy weighted --weight eth0=2", "").unwrap();
    assert!(after.contains("weights = { eth0 = 2 }"), "{after}");
}

#[test]
fn the_file_is_replaced_at_once_with_its_mode_and_links() {
    let dir = tempfile::tempdir().unwrap();
    let real = dir.path().join("real.toml");
    let link = dir.path().join("config.toml");
    fs::write(&real, "a").unwrap();
    fs::set_permissions(&real, Permissions::from_mode(0o640)).unwrap();
    symlink(&real, &link).unwrap();
    let inode = fs::metadata(&real).unwrap().ino();
    Edit::new(&link, "a".into(), "b".into()).write().unwrap();
    assert_eq!(fs::read_to_string(&real).unwrap(), "b");
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    let metadata = fs::metadata(&real).unwrap();
    assert_eq!(metadata.mode() & 0o7777, 0o640);
    assert_ne!(metadata.ino(), inode);
    // Someone else was faster.
    let wrong = Edit::new(&link, "a".into(), "c".into())
        .write()
        .unwrap_err();
    assert!(wrong.to_string().contains("has changed since"), "{wrong}");
    assert_eq!(fs::read_to_string(&real).unwrap(), "b");
    // Nothing else is left behind.
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
}
