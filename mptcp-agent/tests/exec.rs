//! `mptcp-agent exec`, through the real binary: the program's exit code, signals,
//! streams and environment are its own, and what cannot work is refused. What its
//! sockets do is in `tests/e2e/exec.rs`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const SIGTERM: i32 = 15;
const SIGPIPE: i32 = 13;

/// `mptcp-agent exec ARGUMENTS`, with a home of its own for what it writes.
struct Scene {
    home: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        Self {
            home: tempfile::tempdir().unwrap(),
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mptcp-agent"));
        command.arg("exec");
        if arguments.first() != Some(&"--way") {
            // Root may get another way by default.
            command.args(["--way", "preload"]);
        }
        command
            .args(arguments)
            .env("HOME", self.home.path())
            .env_remove("XDG_RUNTIME_DIR")
            .env_remove("XDG_CACHE_HOME")
            .env_remove("LD_PRELOAD")
            .env_remove("GODEBUG");
        fs::create_dir_all(self.home.path().join(".cache")).unwrap();
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Its exit code, and the line that it must say on stderr.
    fn refusal(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.run(arguments);
        let said = text(&output.stderr);
        assert!(output.stdout.is_empty());
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.starts_with("mptcp-agent: error: "), "{said}");
        (output.status.code().unwrap(), said)
    }

    fn file(&self, name: &str, content: &[u8], mode: u32) -> PathBuf {
        let file = self.home.path().join(name);
        fs::write(&file, content).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
        file
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn exit_codes_and_streams_are_the_programs_own() {
    let scene = Scene::new();
    let output = scene.run(&["--", "sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!(output.status.code(), Some(7));
    assert_eq!(text(&output.stdout), "out\n");
    let said = text(&output.stderr);
    let (way, rest) = said.split_once('\n').unwrap();
    assert!(way.starts_with("mptcp-agent: exec: by preload: /"), "{way}");
    assert!(rest.ends_with("err\n"), "{said}");

    // Options behind the program are the program's, and `--` is not needed.
    let output = scene.run(&["--quiet", "sh", "-c", "echo \"$0 $1\"", "--way", "-q"]);
    assert_eq!(text(&output.stdout), "--way -q\n");
    assert!(!text(&output.stderr).contains("by preload"));

    let mut cat = scene
        .command(&["cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    cat.stdin.take().unwrap().write_all(b"through").unwrap();
    assert_eq!(text(&cat.wait_with_output().unwrap().stdout), "through");
}

#[test]
fn signals_reach_the_program_in_the_same_process() {
    let scene = Scene::new();
    let script = "echo $$; exec sleep 1000";
    let mut child = scene
        .command(&["sh", "-c", script])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    stdout.read_line(&mut line).unwrap();
    let id = child.id().to_string();
    assert_eq!(line.trim(), id);
    let kill = Command::new("kill").args(["-TERM", &id]).status();
    assert!(kill.unwrap().success());
    assert_eq!(child.wait().unwrap().signal(), Some(SIGTERM));
    // Rust's runtime ignores SIGPIPE; the program must not inherit that.
    let output = scene.run(&["sh", "-c", "kill -PIPE $$"]);
    assert_eq!(output.status.signal(), Some(SIGPIPE));
}

#[test]
fn the_environment_is_added_to() {
    let scene = Scene::new();
    let variable = |output: &Output, name: &str| {
        let all = text(&output.stdout);
        let values: Vec<_> = all
            .lines()
            .filter_map(|line| line.strip_prefix(name))
            .collect();
        assert_eq!(values.len(), 1, "{name}: {all}");
        values[0].trim_start_matches('=').to_owned()
    };
    let output = scene.run(&["env"]);
    let library = variable(&output, "LD_PRELOAD");
    assert!(Path::new(&library).is_file(), "{library}");
    assert_eq!(variable(&output, "GODEBUG"), "multipathtcp=1");

    let output = scene
        .command(&["env"])
        .env("LD_PRELOAD", "libm.so.6")
        .env("GODEBUG", "gctrace=1")
        .output()
        .unwrap();
    assert_eq!(
        variable(&output, "LD_PRELOAD"),
        format!("libm.so.6:{library}")
    );
    assert_eq!(variable(&output, "GODEBUG"), "gctrace=1,multipathtcp=1");

    // Twice is as good as once.
    let agent = env!("CARGO_BIN_EXE_mptcp-agent");
    let output = scene.run(&[agent, "exec", "--way", "preload", "-q", "env"]);
    assert_eq!(variable(&output, "LD_PRELOAD"), library);
    assert_eq!(variable(&output, "GODEBUG"), "multipathtcp=1");
}

#[test]
fn what_is_not_there_or_no_program() {
    let scene = Scene::new();
    let closed = scene.file("closed", b"", 0o644);
    let orphan = scene.file("orphan", b"#!/no/such/shell\n", 0o755);
    let plain = scene.file("plain", b"exit 9\n", 0o755);
    let of = |name: &str| scene.refusal(&["--quiet", name]);
    let (code, why) = of("no-such-program");
    assert_eq!(code, 127);
    assert!(why.contains("no program no-such-program on PATH"), "{why}");
    assert_eq!(of("/no/such/program").0, 127);
    let (code, why) = of(closed.to_str().unwrap());
    assert_eq!(code, 126);
    assert!(why.contains("permission denied"), "{why}");
    assert_eq!(of("/").0, 126);
    let (code, why) = of(orphan.to_str().unwrap());
    assert_eq!(code, 126);
    assert!(why.contains("interpreter is not there"), "{why}");
    // The shell runs what has no first line, as after `env`.
    let output = scene.run(&[plain.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(9));
}

#[test]
fn wrong_arguments_are_one_line() {
    let scene = Scene::new();
    let (code, why) = scene.refusal(&[]);
    assert_eq!(code, 125);
    assert!(why.contains("CMD"), "{why}");
    let (code, why) = scene.refusal(&["--way", "magic", "true"]);
    assert_eq!(code, 125);
    assert!(why.contains("'magic'") && why.contains("preload"), "{why}");
    let mut nothing = scene.command(&["--way", "mptcpize", "/bin/true"]);
    let output = nothing.env("PATH", scene.home.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(125));
    let said = text(&output.stderr);
    assert!(said.contains("mptcpize is not on PATH"), "{said}");
}

#[test]
fn mptcpize_gets_the_program_as_it_is() {
    let scene = Scene::new();
    let fake = "#!/bin/sh\necho \"$@\"\n";
    scene.file("mptcpize", fake.as_bytes(), 0o755);
    let mut command = scene.command(&["--way", "mptcpize", "sh", "-c", "x"]);
    let path = format!("{}:/usr/bin:/bin", scene.home.path().display());
    let output = command.env("PATH", path).output().unwrap();
    assert_eq!(text(&output.stdout), "run sh -c x\n");
    let said = text(&output.stderr);
    assert!(said.contains("by mptcpize: "), "{said}");
}

#[test]
fn programs_that_ignore_libraries_are_refused() {
    let scene = Scene::new();
    // Debian links ldconfig statically; elsewhere it may be a script.
    if let Some(ldconfig) = ["/sbin/ldconfig.real", "/sbin/ldconfig"]
        .into_iter()
        .find(|file| Path::new(file).exists())
    {
        for way in ["preload", "mptcpize"] {
            let (code, why) = scene.refusal(&["--way", way, ldconfig, "--version"]);
            assert_eq!(code, 125);
            assert!(why.contains("is statically linked"), "{why}");
        }
    }
    // As another user than its owner, a setuid program runs in secure mode.
    let chown = |file: &Path| std::os::unix::fs::chown(file, Some(65534), Some(65534));
    let program = scene.file("program", &fs::read("/bin/true").unwrap(), 0o755);
    let shown = program.to_str().unwrap();
    if chown(&program).is_ok() {
        for (mode, what) in [(0o4755, "is setuid"), (0o2755, "is setgid")] {
            fs::set_permissions(&program, Permissions::from_mode(mode)).unwrap();
            let (code, why) = scene.refusal(&[shown]);
            assert_eq!(code, 125);
            assert!(why.contains(what) && why.contains(shown), "{why}");
        }
        fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
        assert!(scene.run(&[shown]).status.success());
    }
}
