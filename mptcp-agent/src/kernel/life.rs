//! The kernel side's life: kept alive, kept beyond the process, lifted, left.

use std::{os::fd::BorrowedFd, time::Duration};

use anyhow::{Result, bail};
use aya::maps::{Array, MapData};
use mptcp_common::abi::{self, ALIVE_NS, Config};

use super::{Kernel, Link, load, pins::Pins, program, sweep::Sweep};
use crate::clock;

/// How long sockets have to lift their limits themselves, where they cannot be
/// visited: a few of the longest round trips.
pub const GRACE: Duration = Duration::from_millis(700);

/// Why the sockops program is not attached, once its cgroup has been removed.
pub(super) const CGROUP_GONE: &str = "its cgroup is gone";

impl Kernel {
    /// Says that the agent is alive; to be called several times in
    /// [`ALIVE_NS`], by the loop that does the agent's work.
    ///
    /// # Errors
    /// The map refused it.
    pub fn beat(&mut self) -> Result<()> {
        self.set_config(self.config)
    }

    /// Writes `config`, as of an agent that is alive. What the map refuses is
    /// not said again by the next beat.
    pub(super) fn set_config(&mut self, config: Config) -> Result<()> {
        let config = Config {
            alive_until_ns: clock::monotonic_ns() + ALIVE_NS,
            ..config
        };
        self.told.set(0, config, 0)?;
        self.config = config;
        Ok(())
    }

    /// Whether an earlier agent's maps and totals go on.
    pub fn adopted(&self) -> bool {
        self.adopted
    }

    /// Whether the programs outlive this process, and lift what it set; the
    /// reason if not.
    pub fn outlived(&self) -> Result<(), &str> {
        self.not_outlived.as_deref().map_or(Ok(()), Err)
    }

    /// Sees to it that the programs outlive this process, if they can. The
    /// process holds them as well, so that they stay attached if somebody
    /// removes the pins.
    pub(super) fn keep(&mut self, pins: Result<Pins>, links: Vec<Link>) -> Result<()> {
        let pins = match pins {
            // Behind `self`, so that an error below removes it.
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

    /// Attaches to `cgroup`, whose predecessor is gone, and with it what was
    /// attached there; `None`: there is none now.
    ///
    /// # Errors
    /// The kernel refused it.
    pub fn follow_cgroup(&mut self, cgroup: Option<BorrowedFd<'_>>) -> Result<()> {
        self.set_sockops_error(Some(CGROUP_GONE));
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
        self.set_sockops_error(None);
        if let Some(pins) = &mut self.pins {
            pins.forget(program::SOCKOPS, self.owner);
            held.link = pins.keep(program::SOCKOPS, self.owner, held.link)?;
        }
        self.links.push(held);
        Ok(())
    }

    /// Says why the sockops program is not attached. Returns whether that is
    /// news.
    pub(super) fn set_sockops_error(&mut self, error: Option<&str>) -> bool {
        let mut rows = self.attachments.iter_mut();
        let row = rows.find(|row| row.program == program::SOCKOPS);
        row.is_some_and(|row| {
            let news = row.error.as_deref() != error;
            row.error = error.map(str::to_owned);
            news
        })
    }

    /// Lifts every limit, detaches, and leaves nothing.
    ///
    /// # Errors
    /// The sockets could not be visited: those that send lift their limits at
    /// their next callback, as long as the programs are attached.
    pub fn shutdown(mut self) -> Result<Sweep> {
        let lifted = self.lift();
        if let Some(pins) = self.pins.take() {
            pins.remove();
        }
        lifted
    }

    /// Ends without lifting anything: the next agent goes on with it. If none
    /// comes, the programs lift it.
    ///
    /// # Errors
    /// The programs do not outlive this process, so that it was lifted.
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
        // Whatever becomes of the copies: they expire by themselves, limits do not.
        let stopped = self.stop_redundant();
        // First stop the programs from setting anything again.
        self.config.mode = abi::mode::DEFAULT;
        self.config.generation = u32::MAX;
        let lifted = self.sweep(abi::sweep::LIFT);
        if lifted.is_err() {
            // Sockets that send lift their limits at their next callback, as
            // long as the programs are there.
            std::thread::sleep(GRACE);
        }
        lifted.and_then(|lifted| stopped.map(|()| lifted))
    }
}

/// Says that an agent is alive, on behalf of the one that its programs act for.
///
/// # Errors
/// The map cannot be read or refused it.
pub(super) fn stand_in(told: &mut Array<MapData, Config>) -> Result<()> {
    let mut config = told.get(&0, 0)?;
    config.alive_until_ns = clock::monotonic_ns() + ALIVE_NS;
    Ok(told.set(0, config, 0)?)
}

impl Drop for Kernel {
    fn drop(&mut self) {
        // A panic, an early error: the last chance.
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
