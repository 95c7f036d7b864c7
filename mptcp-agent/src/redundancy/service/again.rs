//! Connections whose policy has become another one.

use super::{Service, now_ns};
use crate::kernel::Kernel;

impl Service {
    /// Looks at the policy of every connection again, because it may be another.
    pub fn look_again(&mut self, kernel: &mut Kernel) {
        let now_ns = now_ns();
        if self.wishing.is_some() {
            // Subflows may be on other paths.
            self.compare_ns = 0;
        }
        self.roster.again(now_ns);
        self.look_up(now_ns, kernel);
        self.speak(now_ns);
        self.write(kernel);
    }

    /// Passes over a connection that has no copies, so that nobody needs to prove
    /// it for that, and forgets what was found out about it under another policy.
    pub(super) fn leave(&mut self, key: u64, now_ns: u64) {
        if self.wishing.is_none() {
            self.roster.tell(key);
        }
        for cookie in self.roster.cookies(key) {
            self.peers.closed(cookie, now_ns);
        }
    }
}
