//! The life of the kernel side: how it is kept alive, kept beyond the process,
//! lifted, and left to the next agent.

use std::{os::fd::BorrowedFd, time::Duration};

use anyhow::{Result, bail};
use aya::maps::{Array, MapData};
use mptcp_common::abi::{self, ALIVE_NS, Config};

use super::{Kernel, Link, load, pins::Pins, program, sweep::Sweep};
use crate::kernel::clock;

/// How long sockets have to lift their limits themselves if they cannot be
/// visited: a few of the longest round trips.
pub const GRACE: Duration = Duration::from_millis(700);

/// The time from one heartbeat to the next. The programs lift the limits when
/// they have heard none for [`ALIVE_NS`], which is eight times as long. No step
/// of the agent's loop may take so long that two heartbeats are half a second
/// apart.
pub const BEAT: Duration = Duration::from_millis(250);

/// Map `CONFIG`. Every write to it is a heartbeat.
pub(super) struct Heart {
    map: Array<MapData, Config>,
    /// The content of the map.
    pub(super) config: Config,
    /// When the last heartbeat was written; 0 if this process has written none.
    beat_ns: u64,
}

impl Heart {
    /// Reads what the map holds, maybe from an earlier agent.
    ///
    /// # Errors
    /// The map cannot be read.
    pub(super) fn new(map: Array<MapData, Config>) -> Result<Self> {
        Ok(Self {
            config: map.get(&0, 0)?,
            map,
            beat_ns: 0,
        })
    }

    /// Tells the programs that the agent is alive.
    ///
    /// # Errors
    /// The map refused it.
    pub(super) fn beat(&mut self) -> Result<()> {
        self.write(self.config)
    }

    /// Sends a heartbeat if the last one was [`BEAT`] ago or longer.
    ///
    /// # Errors
    /// The map refused it.
    pub(super) fn beat_if_due(&mut self) -> Result<()> {
        if is_due(self.beat_ns, clock::monotonic_ns()) {
            self.beat()?;
        }
        Ok(())
    }

    /// Writes `config` with a fresh heartbeat. If the map refuses it, the next
    /// beat does not write it again.
    ///
    /// # Errors
    /// The map refused it.
    pub(super) fn write(&mut self, config: Config) -> Result<()> {
        let now_ns = clock::monotonic_ns();
        let config = Config {
            alive_until_ns: now_ns + ALIVE_NS,
            ..config
        };
        self.map.set(0, config, 0)?;
        (self.config, self.beat_ns) = (config, now_ns);
        Ok(())
    }
}

fn is_due(beat_ns: u64, now_ns: u64) -> bool {
    u128::from(now_ns.saturating_sub(beat_ns)) >= BEAT.as_nanos()
}

impl Kernel {
    /// Tells the programs that the agent is alive. The agent's loop calls it
    /// each [`BEAT`].
    ///
    /// # Errors
    /// The map refused it.
    pub fn beat(&mut self) -> Result<()> {
        self.heart.beat()
    }

    /// Tells the programs that the agent is alive, if the last heartbeat was
    /// [`BEAT`] ago or longer. Work that keeps the agent's loop busy for more
    /// than a moment calls it between its pieces, each of which takes a few
    /// milliseconds at most.
    ///
    /// # Errors
    /// The map refused it.
    pub fn beat_if_due(&mut self) -> Result<()> {
        self.heart.beat_if_due()
    }

    /// Returns whether the maps and totals of an earlier agent go on.
    pub fn adopted(&self) -> bool {
        self.adopted
    }

    /// Returns `Ok` if the programs outlive this process, and then lift what it
    /// set; otherwise returns the reason why not.
    pub fn outlived(&self) -> Result<(), &str> {
        self.not_outlived.as_deref().map_or(Ok(()), Err)
    }

    /// Makes the programs outlive this process, if they can. The process holds
    /// them as well, so that they stay attached if somebody removes the pins.
    pub(super) fn keep(&mut self, pins: Result<Pins>, links: Vec<Link>) -> Result<()> {
        let pins = match pins {
            // Store the pins in `self`, so that an error below removes them.
            Ok(pins) => self.pins.insert(pins),
            Err(error) => {
                self.not_outlived = Some(format!("{error:#}"));
                self.links = links;
                return Ok(());
            }
        };
        for (name, path) in pins.map_paths() {
            self.kept_maps.push((name, MapData::from_pin(path)?));
        }
        pins.keep_maps(&self.kept_maps)?;
        for mut held in links {
            held.link = pins.keep(held.program, self.owner, held.link)?;
            self.links.push(held);
        }
        Ok(())
    }

    /// Attaches the sockops program to `cgroup`, which is in the place of one
    /// that was removed; `None` means that there is none now. The removal has
    /// detached what was attached to the old one.
    ///
    /// # Errors
    /// The kernel refused it.
    pub fn follow_cgroup(&mut self, cgroup: Option<BorrowedFd<'_>>) -> Result<()> {
        self.cgroup_gone = true;
        self.set_sockops_error(Some("its cgroup is gone"));
        self.links.retain(|held| held.program != program::SOCKOPS);
        let Some(cgroup) = cgroup else { return Ok(()) };
        self.attach_sockops_again(cgroup)
    }

    /// Attaches the sockops program, whose link is gone, to `cgroup`.
    pub(super) fn attach_sockops_again(&mut self, cgroup: BorrowedFd<'_>) -> Result<()> {
        let mut held = Link::new(
            program::SOCKOPS,
            load::attach_again(&mut self.ebpf, cgroup)?,
        )?;
        self.cgroup_gone = false;
        self.set_sockops_error(None);
        if let Some(pins) = &mut self.pins {
            pins.forget(program::SOCKOPS, self.owner);
            held.link = pins.keep(program::SOCKOPS, self.owner, held.link)?;
        }
        self.links.push(held);
        Ok(())
    }

    /// Records why the sockops program is not attached, or that it is. Returns
    /// whether that has changed.
    pub(super) fn set_sockops_error(&mut self, error: Option<&str>) -> bool {
        let mut rows = self.attachments.iter_mut();
        let row = rows.find(|row| row.program == program::SOCKOPS);
        row.is_some_and(|row| {
            let news = row.error.as_deref() != error;
            row.error = error.map(str::to_owned);
            news
        })
    }

    /// Lifts every limit, detaches the programs, and leaves nothing behind.
    ///
    /// # Errors
    /// The sockets could not be visited. Those that send data lift their limits
    /// at their next callback, as long as the programs are attached.
    pub fn shutdown(mut self) -> Result<Sweep> {
        let lifted = self.lift();
        if let Some(pins) = self.pins.take() {
            pins.remove();
        }
        lifted
    }

    /// Ends without lifting the limits, so that the next agent goes on with
    /// them. If none comes, the programs lift them.
    ///
    /// # Errors
    /// The programs do not outlive this process, so the limits were lifted.
    pub fn leave(mut self) -> Result<()> {
        if let Some(reason) = self.not_outlived.clone() {
            self.shutdown()?;
            bail!("{reason}");
        }
        self.stop_redundant()?;
        self.beat()?;
        self.lifted = true;
        Ok(())
    }

    fn lift(&mut self) -> Result<Sweep> {
        self.lifted = true;
        // Go on even if this fails: copies expire by themselves, limits do not.
        let stopped = self.stop_redundant();
        // First stop the programs from setting anything again.
        self.heart.config.enforced = 0;
        self.heart.config.generation = u32::MAX;
        let lifted = self.sweep(abi::sweep::LIFT);
        if lifted.is_err() {
            // Sockets that send data lift their limits at their next callback,
            // as long as the programs are there.
            std::thread::sleep(GRACE);
        }
        lifted.and_then(|lifted| stopped.map(|()| lifted))
    }
}

/// Says that an agent is alive, on behalf of the agent whose programs act.
///
/// # Errors
/// The map cannot be read, or refused the heartbeat.
pub(super) fn stand_in(map: &mut Array<MapData, Config>) -> Result<()> {
    let mut config = map.get(&0, 0)?;
    config.alive_until_ns = clock::monotonic_ns() + ALIVE_NS;
    Ok(map.set(0, config, 0)?)
}

impl Drop for Kernel {
    fn drop(&mut self) {
        // After a panic or an early error, this is the last chance to lift the
        // limits.
        if self.lifted {
            return;
        }
        if let Err(error) = self.lift() {
            tracing::warn!("could not lift the limits of existing connections: {error:#}");
        }
        if let Some(pins) = &self.pins {
            pins.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heartbeats_come_at_least_twice_a_second_and_never_late() {
        let interval_ns = u64::try_from(BEAT.as_nanos()).expect("a short time");
        assert!(is_due(0, interval_ns) && !is_due(0, interval_ns - 1));
        assert!(is_due(7, 7 + interval_ns) && !is_due(7, 6 + interval_ns));
        // The clock of another CPU may be behind.
        assert!(!is_due(7, 0));
        assert!(2 * interval_ns < 1_000_000_000 && 4 * interval_ns < ALIVE_NS);
    }
}
