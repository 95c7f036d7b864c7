//! Checks that the static agent needs nothing but the kernel.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use super::roots::Root;
use xtask::workspace::Workspace;

/// Runs the agent in namespaces of its own, below a directory (`$1`) that holds
/// the agent and a system or nothing, and gets the kernel's file systems and three
/// devices, until the agent answers. Then stops it, which must end well.
const RUN: &str = r#"
mount --make-rprivate /
cd "$1"
mkdir -p proc sys run dev
for device in null random urandom; do
    touch dev/$device
    mount --bind /dev/$device dev/$device
done
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t bpf bpf sys/fs/bpf
mount -t cgroup2 cgroup2 sys/fs/cgroup
ip link set lo up
chroot . /mptcp-agent --version
chroot . /mptcp-agent run &
agent=$!
for _ in $(seq 100); do
    if chroot . /mptcp-agent status >/dev/null 2>&1; then
        kill -TERM $agent
        wait $agent
        exit 0
    fi
    sleep 0.2
done
kill -KILL $agent
echo "the agent does not answer" >&2
exit 1
"#;

/// A place for the agent.
struct Place {
    /// How it is called in what is printed.
    what: &'static str,
    /// The system that is there; none at all if it is absent.
    root: Option<Root>,
    /// A file that shows that the system is what it should be.
    library: Option<&'static str>,
}

/// The C libraries of the systems below, on this machine's architecture.
const MUSL: &str = if cfg!(target_arch = "aarch64") {
    "lib/ld-musl-aarch64.so.1"
} else {
    "lib/ld-musl-x86_64.so.1"
};
const OLD_GLIBC: &str = if cfg!(target_arch = "aarch64") {
    "lib/aarch64-linux-gnu/libc-2.31.so"
} else {
    "lib/x86_64-linux-gnu/libc-2.31.so"
};

/// Where the agent must run. Alpine's own packages are not in Debian's archive;
/// its C library is, with its loader at the same path.
const PLACES: [Place; 3] = [
    Place {
        what: "with nothing else there",
        root: None,
        library: None,
    },
    Place {
        what: "beside musl, as in Alpine",
        root: Some(Root {
            name: "musl-root",
            release: None,
            options: &["--variant=extract", "--include=musl,busybox-static"],
        }),
        library: Some(MUSL),
    },
    Place {
        what: "in Debian 11, whose glibc is 2.31",
        root: Some(Root {
            name: "bullseye-root",
            release: Some("bullseye"),
            options: &["--variant=minbase"],
        }),
        library: Some(OLD_GLIBC),
    },
];

/// Checks that the agent starts, answers and stops where there is no library, no
/// file in /etc and no other program; beside another C library; and beside an
/// older one.
///
/// # Errors
/// It does not; the error has what it printed.
pub fn check(workspace: &Workspace, agent: &Path) -> Result<()> {
    for place in &PLACES {
        check_in(workspace, agent, place)
            .with_context(|| format!("the static agent does not run {}", place.what))?;
        eprintln!("      the static agent runs {}", place.what);
    }
    Ok(())
}

fn check_in(workspace: &Workspace, agent: &Path, place: &Place) -> Result<()> {
    let root = agent.with_file_name("root");
    // What a killed run left. Its mounts went with their namespace.
    let _ = fs::remove_dir_all(&root);
    match &place.root {
        Some(system) => system.unpack(workspace, &root)?,
        None => {
            fs::create_dir_all(&root).with_context(|| format!("cannot make {}", root.display()))?
        }
    }
    if let Some(library) = place.library {
        // A link may be absolute, so it is not followed.
        ensure!(
            root.join(library).symlink_metadata().is_ok(),
            "the system has no {library}, so this would check nothing"
        );
    }
    fs::copy(agent, root.join("mptcp-agent"))
        .with_context(|| format!("cannot copy {}", agent.display()))?;
    let output = Command::new("unshare")
        .args(["--mount", "--net", "sh", "-euc", RUN, "run"])
        .arg(&root)
        .stdin(Stdio::null())
        .output()
        .context("cannot start unshare")?;
    ensure!(
        output.status.success(),
        "in {}:\n{}{}",
        root.display(),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    fs::remove_dir_all(&root).with_context(|| format!("cannot remove {}", root.display()))
}
