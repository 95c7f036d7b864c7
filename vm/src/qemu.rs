//! A virtual machine, from its boot to its end.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use mptcp_lab::cleanup::Cleanup;

use crate::archive::Kernel;
use crate::guest;
use crate::platform::Platform;
use crate::report::Report;

/// Boots a kernel with the command `qemu` and waits until the guest is done.
/// Copies the console into the report's file meanwhile.
pub fn boot(
    mut qemu: Command,
    platform: &Platform,
    kernel: &Kernel,
    initramfs: &Path,
    append: &str,
    report: &mut Report,
) -> Result<()> {
    let mut copy = File::create(&report.console).context("the copy of the console")?;
    complete(&mut qemu, platform, kernel, initramfs, append);
    let mut child = qemu.spawn().with_context(|| format!("start {qemu:?}"))?;
    let lines = lines(child.stdout.take());
    let child = Arc::new(Mutex::new(child));
    let _end = end(&child);
    // The guest normally ends by itself before this deadline.
    let deadline = Instant::now() + platform.limit + platform.boot;
    loop {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                writeln!(copy, "{line}")?;
                report.line(&line);
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => bail!("it did not end in time"),
        }
    }
    let status = lock(&child).wait()?;
    ensure!(status.success(), "QEMU ended with {status}");
    Ok(())
}

/// Adds the arguments for the machine and for the kernel to boot.
fn complete(
    qemu: &mut Command,
    platform: &Platform,
    kernel: &Kernel,
    initramfs: &Path,
    append: &str,
) {
    let (console, init, verb) = (platform.console, guest::INIT, guest::VERB);
    qemu
        // Use one thread for both processors: with two, a kernel that patches
        // its code may run QEMU's old translation of it (Oops: int3).
        .args(["-accel", "tcg,thread=single", "-smp", "2"])
        .args(platform.board)
        .args(["-m", "1G", "-nodefaults", "-no-user-config", "-display"])
        .args(["none", "-serial", "stdio", "-no-reboot", "-kernel"])
        .arg(&kernel.image)
        .arg("-initrd")
        .arg(initramfs)
        .arg("-append")
        .arg(format!(
            "console={console} quiet panic=-1 {append} rdinit={init} -- {verb}"
        ))
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
}

/// Receives the console's lines as they arrive.
fn lines(console: Option<ChildStdout>) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut console = BufReader::new(console?);
        let mut line = Vec::new();
        while matches!(console.read_until(b'\n', &mut line), Ok(count) if count > 0) {
            let text = String::from_utf8_lossy(&line);
            sender.send(text.trim_end().to_owned()).ok()?;
            line.clear();
        }
        Some(())
    });
    receiver
}

/// Returns a guard that ends QEMU when it is dropped or this program ends.
fn end(child: &Arc<Mutex<Child>>) -> Cleanup {
    let child = Arc::clone(child);
    Cleanup::new(move || {
        let mut child = lock(&child);
        // Ignore errors: both calls fail if QEMU has ended.
        let _ = child.kill();
        let _ = child.wait();
    })
}

fn lock(child: &Mutex<Child>) -> MutexGuard<'_, Child> {
    child.lock().unwrap_or_else(PoisonError::into_inner)
}
