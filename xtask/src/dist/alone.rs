//! Checks that the static agent needs nothing but the kernel.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

/// Runs the agent in namespaces of its own, below a directory (`$1`) that holds
/// the agent, the kernel's file systems and three devices, and nothing else, until it answers.
/// Then stops it, which must end well.
const RUN: &str = r#"
mount --make-rprivate /
cd "$1"
mkdir proc sys run dev
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

/// Checks that the agent starts, answers and stops where there is no library, no
/// file in /etc and no other program.
///
/// # Errors
/// It does not; the error has what it printed.
pub fn check(agent: &Path) -> Result<()> {
    let root = agent.with_file_name("root");
    fs::create_dir_all(&root).with_context(|| format!("cannot make {}", root.display()))?;
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
        "the static agent does not run in {} with nothing else there:\n{}{}",
        root.display(),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    // The mounts went with their namespace.
    fs::remove_dir_all(&root).with_context(|| format!("cannot remove {}", root.display()))
}
