//! Each mistake is one line with its place.

use super::{PATHS, weighted, with};

#[test]
fn mistakes_name_their_place() {
    let paths = PATHS.lines().count();
    assert_eq!(paths, 5);
    for (text, mistake) in [
        (
            "listen = \"8684\"",
            "f:1:10: listen is \"8684\": expected ADDR:PORT",
        ),
        (
            "listen = [\"127.0.0.1:1\", \"unix:a\"]",
            "f:1:26: listen is \"unix:a\": expected an absolute path",
        ),
        ("listen = []", "f:1:10: listen is an empty list"),
        (
            "web-config-file = \"web.yml\"",
            "f:1:19: web-config-file is \"web.yml\": expected an absolute path",
        ),
        (
            "control = \"a.sock\"",
            "f:1:11: control is \"a.sock\": expected an absolute path",
        ),
        (
            "cgroup = \"a\"",
            "f:1:10: cgroup is \"a\": expected an absolute path",
        ),
        (
            "btf = \"a\"",
            "f:1:7: btf is \"a\": expected an absolute path",
        ),
        (
            "max-connections = 0",
            "f:1:19: max-connections is 0: expected 1 to 1048576",
        ),
        (
            "log-format = \"xml\"",
            "f:1:14: log-format is \"xml\": expected \"text\" or \"json\"",
        ),
        (
            "[path.lte]",
            "f:1:7: path \"lte\" has no selector: give it one of device, address",
        ),
        (
            "[path.lte]\ndevice = \"a\"\nid = 1",
            "f:3:6: path \"lte\" has device and id: give it only one of",
        ),
        (
            "[path.web]\nremote-port = 0",
            "f:2:15: remote-port: `remote-port:0`: a port is a number from 1 to 65535",
        ),
        (
            "[path.lte]\nid = 256",
            "f:2:6: id: `id:256`: an address id is a number from 0 to 255",
        ),
        (
            "[path.lte]\ndevice = \"10.0.0.1\"",
            "f:2:10: device is \"10.0.0.1\": expected the name of a device",
        ),
        (
            "[path.lte]\naddress = \"eth0\"",
            "f:2:11: address is \"eth0\": expected an address or a prefix",
        ),
        (
            "[path.lte]\naddress = \"10.0.0.1/24\"",
            "f:2:11: address: `10.0.0.1/24` has host bits",
        ),
        (
            "[path.lte]\nremote = \"eth0\"",
            "f:2:10: remote: `remote:eth0`: after remote: comes",
        ),
        (
            "[path.default]\nid = 1",
            "f:2:6: path \"default\" is every path that no other one is",
        ),
        (
            "[path.\"a b\"]\nid = 1",
            "f:1:7: \"a b\" cannot be the name of a path",
        ),
        (
            "[path.a]\nid = 1\n[path.b]\nid = 1",
            "f:3:7: path \"b\" is the same as path \"a\": both are id:1",
        ),
        (
            "[path.a]\nid = 1\nlimit = \"a=20mbit\"",
            "f:3:9: limit: `a=20mbit`: leave the path and `=` out",
        ),
        ("[path.a]\nid = 1\nlimit = \"fast\"", "f:3:9: limit: `fast`"),
        (
            "[path.a]\nid = 1\nleave-out = \"loss:60%\"",
            "f:3:13: leave-out: `loss:60%` is no bound",
        ),
        (
            "[policy.default]\npolicy = \"fast\"",
            "f:2:10: policy is `fast`: expected one of default, weighted",
        ),
        (
            "[policy.default]\npolicy = \"overflow\"",
            "f:1:9: prefer is missing: expected at least one path",
        ),
        (
            "[policy.default]\npolicy = \"redundant\"\nmode = \"spill\"",
            "f:3:8: mode has no effect under policy redundant: choose policy weighted",
        ),
        (
            "[policy.default]\npolicy = \"redundant\"\ncopies = 5",
            "f:3:10: copies is 5: expected 2 to 4",
        ),
        (
            "[policy.default]\npolicy = \"redundant\"\nport = 65536",
            "f:3:8: port is 65536: expected 1 to 65535",
        ),
        (
            "[policy.default]\npolicy = \"redundant\"\nkey = \"k\"",
            "f:3:7: key k is relative: expected an absolute path",
        ),
        (
            "[policy.default]\npolicy = \"redundant\"\nbudget = \"fast\"",
            "f:3:10: budget: `fast`",
        ),
        (
            "[policy.x.y]\npolicy = \"default\"",
            "f:1:11: unknown key \"y\"",
        ),
        (
            "[policy.\"\"]\npolicy = \"default\"",
            "f:1:9: \"\" cannot be the name of a policy",
        ),
        (
            "[policy.fast]\npolicy = \"redundant\"\n[[rule]]\npolicy = \"fsat\"",
            "f:3:1: rule 1: there is no policy \"fsat\" (did you mean \"fast\"?)",
        ),
        (
            "[[rule]]\npolicy = \"bulk\"",
            "f:1:1: rule 1: there is no policy \"bulk\" (add a table [policy.NAME])",
        ),
        (
            "[[rule]]\npolicy = \"default\"\n[[rule]]\npolicy = \"default\"\ndport = \"9-8\"",
            "f:3:1: rule 2: dport: `9-8` ends before it begins",
        ),
        (
            "[policy.a]\npolicy = \"redundant\"\n[policy.b]\npolicy = \"redundant\"\nport = 9",
            "f:3:9: policy `b`: its redundant settings differ from those of policy `a`",
        ),
    ] {
        let said = with(text, "").unwrap_err();
        assert!(said.starts_with(mistake), "{text}: {said}");
        assert!(!said.contains('\n'), "{said}");
    }
    for (lines, mistake) in [
        (
            "mode = \"strikt\"",
            "f:8:8: mode is `strikt`: expected one of strict, spill",
        ),
        (
            "scope = \"all\"",
            "f:8:9: scope is `all`: expected one of host, connection",
        ),
        (
            "scope = \"connection\"\nthin = \"place\"",
            "f:9:8: thin: `place` needs the scope `host`",
        ),
        (
            "weights = { lte = 65536 }",
            "f:8:19: the weight of lte is 65536: expected 0 to 65535",
        ),
        (
            "weights = { lte = -1 }",
            "f:8:19: the weight of lte is -1: expected 0 to 65535",
        ),
        (
            "weights = { \"lte:\" = 1 }",
            "f:8:13: no path has this name (did you mean \"lte\"?): `lte:` is neither",
        ),
        (
            "weights = { \"10.0.0.1/24\" = 1 }",
            "f:8:13: no path has this name: `10.0.0.1/24` has",
        ),
        (
            "weights = { lte = 1, wwan0 = 2 }",
            "f:8:11: two weights name the same path, `wwan0`: give each path one weight",
        ),
        ("weights = { default = 0 }", "f:8:11: all weights are 0"),
        (
            "prefer = [\"lte\"]",
            "f:8:10: prefer has no effect under policy weighted",
        ),
    ] {
        let said = with(&weighted(lines), "").unwrap_err();
        assert!(said.starts_with(mistake), "{lines}: {said}");
    }
    let text = "[path.a]\nid = 1\nstandby = true\n[policy.default]\npolicy = \"weighted\"\n\
                weights = { a = 2 }";
    assert_eq!(
        with(text, "").unwrap_err(),
        "f:3:11: path \"a\" is on standby, but its weight is 2: leave one of them out"
    );
}

#[test]
fn a_name_that_is_nearly_a_path_s_is_a_warning() {
    let text = weighted("weights = { fibr = 1, lte = 2, eth0 = 3, lo = 4 }");
    let warnings = with(&text, "").unwrap().warnings;
    let expected = "f:8:13: no path is named \"fibr\", so it is taken for a device (did you mean \
                    \"fibre\"?)";
    assert_eq!(warnings, [expected]);
}

#[test]
fn a_mistake_in_a_flag_names_the_flag() {
    for (text, flags, mistake) in [
        (
            "",
            "--weight eth0=1",
            "--weight has no effect under policy default",
        ),
        (
            "[policy.default]\npolicy = \"redundant\"",
            "--weight eth0=1",
            "--weight has no effect under policy redundant",
        ),
        (
            &weighted("weights = { lte = 1 }"),
            "--weight eth0=1 --weight eth0=2",
            "two --weight name the same path",
        ),
        (
            &weighted("weights = { lte = 1 }"),
            "--redundant-copies 3",
            "--redundant-copies has no effect under policy weighted",
        ),
    ] {
        let said = with(text, flags).unwrap_err();
        assert!(said.starts_with(mistake), "{flags}: {said}");
    }
}

#[test]
fn more_paths_than_the_agent_tells_apart_are_refused() {
    let paths = |count: usize| -> String {
        let paths = (0..count).map(|n| format!("[path.p{n}]\ndevice = \"d{n}\"\n"));
        paths.collect()
    };
    assert!(with(&paths(crate::policy::MAX_SELECTORS), "").is_ok());
    let said = with(&paths(crate::policy::MAX_SELECTORS + 2), "").unwrap_err();
    assert!(said.contains("there are more than"), "{said}");
}
