//! Data that comes in messages with gaps between them: each message uses one path,
//! and no cap paces it out.

use std::time::Duration;

use anyhow::{Result, ensure};
use mptcp_lab::kernel::SubflowInfo;
use mptcp_lab::traffic::{ANY, Frames, PollServer, Service, Sockets};
use mptcp_lab::{Lab, Path};

use crate::support::{Watched, acked_by, require_agent, settle, weighted};
use crate::{SOON, VERY_LONG};

/// A video of 2 Mbit/s.
const SIZE: usize = 8_000;
const INTERVAL: Duration = Duration::from_millis(33);

/// Returns whether a cap paces out what the subflow sends. A path that is held out
/// has the rate 0, which holds back nothing that is queued.
fn is_paced(subflow: &SubflowInfo) -> bool {
    !matches!(subflow.max_pacing_rate_bytes_per_sec, 0 | u64::MAX)
}

#[test]
fn frames_keep_the_ratio_and_no_cap_paces_them_out() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = lab.two_hosts([
        Path::new("p1").rate_mbit(20.0).delay_ms(10.0),
        Path::new("p2").rate_mbit(10.0).delay_ms(40.0),
    ])?;
    let agent = Watched::start(&net.client, &binary, &weighted(&["p1=1", "p2=1"]))?;
    let server = PollServer::spawn(&net.server, ANY, Service::Frames(SIZE), &Sockets::default())?;
    let frames = Frames {
        bytes: SIZE,
        interval: INTERVAL,
        count: VERY_LONG.as_millis() as u32 / INTERVAL.as_millis() as u32,
        sockets: Sockets::default(),
    };
    let framing = frames.start(&net.client, server.at(net.server_addr()))?;
    framing.wait_for_subflows(2, SOON)?;
    // The default scheduler sends all frames over the first path.
    agent.event("path_readmitted", &[("path", "p1".into())])?;
    let (mut looks, mut paced) = (0, 0);
    settle(&[1, 1], || {
        let subflows = framing.subflows()?;
        looks += 1;
        paced += u32::from(subflows.iter().any(is_paced));
        Ok(acked_by(&subflows, &net.links, |one| one.local.ip()))
    })?;
    // A sender that this machine stops for a moment has data waiting after that.
    ensure!(
        paced * 5 < looks,
        "a cap paced out frames at {paced} of {looks} looks"
    );
    framing.stop()?;
    server.stop()?;
    agent.stop()
}
