//! Keeps the roster in step with the kernel's subflows, and reports them to the
//! protocols.

use std::collections::HashSet;

use anyhow::Result;
use mptcp_common::abi::{redundant::ChannelKey, subflow_flag};

use super::Service;
use crate::kernel::{Kernel, PAGE};
use crate::redundancy::peers::{ConnectionInfo, Peers, SubflowInfo};
use crate::redundancy::roster;

impl Service {
    pub(super) fn see(
        &mut self,
        cookie: u64,
        subflow: roster::Subflow,
        now_ns: u64,
        kernel: &mut Kernel,
    ) {
        let tuple = &subflow.tuple;
        if tuple.flags & subflow_flag::FALLBACK != 0 {
            return;
        }
        let local = ChannelKey::scope_of(&tuple.remote, subflow.ifindex) != 0;
        if local && self.ports.carries(subflow.ifindex) {
            self.update(kernel);
        }
        self.roster.see(cookie, subflow, now_ns);
    }

    pub(super) fn close(&mut self, cookie: u64, now_ns: u64) {
        if self.roster.close(cookie) {
            let all = [Some(&mut self.peers), self.wishing.as_mut()];
            for peers in all.into_iter().flatten() {
                peers.closed(cookie, now_ns);
            }
        }
    }

    /// Reports subflows to the protocol once their connection's keys are known.
    pub(super) fn look_up(&mut self, now_ns: u64, kernel: &mut Kernel) {
        for page in self.roster.due(now_ns).chunks(PAGE) {
            for (key, server) in page {
                self.look_up_one(*key, *server, now_ns, kernel);
            }
            Self::beat(kernel);
        }
    }

    fn look_up_one(&mut self, key: u64, server: bool, now_ns: u64, kernel: &Kernel) {
        let Ok(Some(image)) = kernel.connection(key) else {
            self.roster.wait(key, now_ns);
            return;
        };
        let copies = self.copies && kernel.copies(image.policy());
        if !copies {
            self.leave(key, now_ns);
        }
        let peers = [
            Some(&mut self.peers).filter(|_| copies),
            self.wishing.as_mut(),
        ];
        let mut peers: Vec<&mut Peers> = peers.into_iter().flatten().collect();
        for peers in &mut peers {
            peers.connection(ConnectionInfo {
                key,
                server,
                token: image.token(),
                local_key: image.local_key(),
                remote_key: image.remote_key(),
            });
        }
        if !peers.iter().all(|peers| peers.knows(key)) {
            self.roster.wait(key, now_ns);
            return;
        }
        for (cookie, subflow) in self.roster.tell(key) {
            let info = SubflowInfo {
                cookie,
                connection: key,
                tuple: subflow.tuple,
                ifindex: subflow.ifindex,
                path: subflow.path,
            };
            for peers in &mut peers {
                peers.subflow(info, now_ns);
            }
        }
    }

    /// Sends a heartbeat if one is due, between two pages of work that grows
    /// with the number of connections.
    fn beat(kernel: &mut Kernel) {
        // If this fails, the loop's own heartbeat does as well, and is
        // reported.
        let _ = kernel.beat_if_due();
    }

    /// Compares the roster with the kernel's maps, and corrects it.
    pub(super) fn compare(&mut self, now_ns: u64, kernel: &mut Kernel) -> Result<()> {
        let mut open: Vec<(u64, roster::Subflow)> = Vec::new();
        let mut cookies: HashSet<u64> = HashSet::new();
        kernel.subflows(|cookie, subflow| {
            open.push((cookie, (&subflow).into()));
            cookies.insert(cookie);
        })?;
        // Close what is gone first, since the kernel may have reused the
        // address of its connection for a new one.
        for page in self.roster.all().chunks(PAGE) {
            for cookie in page {
                if !cookies.contains(cookie) && kernel.subflow(*cookie)?.is_none() {
                    self.close(*cookie, now_ns);
                }
            }
            Self::beat(kernel);
        }
        for page in open.chunks(PAGE) {
            for (cookie, subflow) in page {
                self.see(*cookie, *subflow, now_ns, kernel);
            }
            Self::beat(kernel);
        }
        Ok(())
    }
}
