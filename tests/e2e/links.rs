//! The lab's links and traffic have the properties that a test asks for.

use std::time::{Duration, Instant};

use anyhow::Result;
use mptcp_lab::traffic::{ANY, ANY_V4, Behaviour, Bulk, RequestResponse, Server};
use mptcp_lab::{Direction, Family, Lab, Path, kernel, require_lab, wait};

use crate::{LONG, SOON};

#[test]
fn a_transfer_uses_two_paths() -> Result<()> {
    require_lab!();
    let lab = Lab::new()?;
    let paths = vec![
        Path::new("p1").rate_mbit(40.0),
        Path::new("p2").rate_mbit(20.0),
    ];
    let net = lab.two_hosts(paths)?;
    let sink = Server::spawn(&net.server, ANY_V4, Behaviour::Sink)?;
    let joins_before = net.server.netstat()?.mptcp("MPJoinAckRx");
    let transfer =
        Bulk::upload_for(Duration::from_secs(2)).start(&net.client, sink.at(net.server_addr()))?;
    let subflows = transfer.wait_for_subflows(2, SOON)?;
    assert_eq!(subflows[0].local.ip(), net.links[0].client_addr);
    assert_eq!(subflows[1].local.ip(), net.links[1].client_addr);
    let report = transfer.finish()?;

    assert!(report.confirmed);
    assert_eq!(report.bytes, sink.received());
    assert_eq!(net.server.netstat()?.mptcp("MPJoinAckRx"), joins_before + 1);
    for link in &net.links {
        let sent = net.client.device(&link.name)?.tx_bytes;
        assert!(
            sent > report.bytes / 10,
            "{sent} bytes of {} on {}",
            report.bytes,
            link.name
        );
        // The far end receives what this end sends: TBF does the queueing.
        assert!(net.server.device(&link.name)?.rx_bytes > report.bytes / 10);
    }
    let rate = report.rate_mbit();
    assert!((20.0..66.0).contains(&rate), "{rate} Mbit/s over 40 and 20");
    Ok(())
}

#[test]
fn a_download_counts_at_both_ends() -> Result<()> {
    require_lab!();
    let lab = Lab::new()?;
    let net = lab.two_hosts([
        Path::new("p1").rate_mbit(50.0),
        Path::new("p2").rate_mbit(50.0),
    ])?;
    let source = Server::spawn(&net.server, ANY_V4, Behaviour::Source { rate_mbit: None })?;
    let transfer = Bulk::download_for(LONG).start(&net.client, source.at(net.server_addr()))?;
    let connection = source.connection(0, SOON)?;
    transfer.wait_for_subflows(2, SOON)?;
    transfer.wait_for_progress(2_000_000, SOON)?;
    let report = transfer.stop()?;
    let received: u64 = report
        .subflows
        .iter()
        .map(|subflow| subflow.bytes_received)
        .sum();
    assert!(
        received >= report.bytes,
        "{received} bytes on subflows, {} read",
        report.bytes
    );
    wait::until_true("the server to see the end", SOON, || !connection.is_open());
    assert!(connection.sent() >= report.bytes);
    Ok(())
}

#[test]
fn a_delay_link_has_its_delay_and_rate() -> Result<()> {
    require_lab!();
    let lab = Lab::new()?;
    let net = lab.two_hosts([Path::new("far").rate_mbit(30.0).delay_ms(20.0)])?;
    let echo = Server::spawn(&net.server, ANY_V4, Behaviour::Echo)?;
    let to = echo.at(net.server_addr());
    let latencies =
        RequestResponse::new(100, Duration::from_millis(10), 20).run_to_end(&net.client, to)?;
    let (best, median) = (latencies.percentile(0.0), latencies.p50());
    eprintln!(
        "RTT asked 40 ms: best {best:?}, median {median:?}, max {:?}",
        latencies.max()
    );
    assert!(best >= Duration::from_millis(40));
    assert!(median < Duration::from_millis(80), "median {median:?}");

    let sink = Server::spawn(&net.server, ANY_V4, Behaviour::Sink)?;
    let transfer =
        Bulk::upload_for(Duration::from_secs(3)).start(&net.client, sink.at(net.server_addr()))?;
    transfer.wait_for_progress(1_000_000, SOON)?;
    let srtt = transfer.subflows()?[0].srtt_us;
    // 40 ms, plus at most the queue (50 ms).
    assert!((40_000..150_000).contains(&srtt), "{srtt} us");
    let report = transfer.finish()?;
    let rate = report.rate_mbit();
    eprintln!(
        "30 Mbit/s: {rate:.1} of payload; CPU {:?}",
        net.links[0].cpu_time()?
    );
    assert!((12.0..30.0).contains(&rate), "{rate} Mbit/s");
    let stats = net.links[0].stats(Direction::Up)?;
    assert!(stats.forwarded_bytes > report.bytes);
    assert_eq!((stats.random_drops, stats.blackhole_drops), (0, 0));
    Ok(())
}

#[test]
fn both_families_in_one_connection() -> Result<()> {
    require_lab!();
    let lab = Lab::new()?;
    let paths = vec![
        Path::new("four").rate_mbit(20.0),
        Path::new("six").rate_mbit(20.0).family(Family::V6),
        Path::new("far6")
            .rate_mbit(20.0)
            .delay_ms(5.0)
            .family(Family::V6)
            .mtu(1400),
    ];
    let net = lab.two_hosts(paths)?;
    // The client must learn the IPv6 addresses that it can join.
    for link in &net.links[1..] {
        net.server
            .endpoint(link.server_addr, &link.name, "signal")?;
    }
    let sink = Server::spawn(&net.server, ANY, Behaviour::Sink)?;
    let bulk = Bulk::upload_for(LONG).dual_stack();
    let transfer = bulk.start(&net.client, sink.at(net.server_addr()))?;
    let subflows = transfer.wait_for_subflows(3, SOON)?;
    for link in &net.links {
        let here = subflows
            .iter()
            .filter(|subflow| subflow.local.ip() == link.client_addr);
        assert_eq!(here.count(), 1, "{} in {subflows:#?}", link.name);
    }
    let report = transfer.stop()?;
    assert_eq!(report.bytes, sink.received());
    Ok(())
}

#[test]
fn loss_and_blackholes_act_on_both_kinds_of_link() -> Result<()> {
    require_lab!();
    for delay_ms in [0.0, 5.0] {
        let lab = Lab::new()?;
        let path = Path::new("p1").rate_mbit(50.0).delay_ms(delay_ms).no_gso();
        let net = lab.two_hosts([path])?;
        let sink = Server::spawn(&net.server, ANY_V4, Behaviour::Sink)?;
        let bulk = Bulk::upload_for(LONG);
        let transfer = bulk.start(&net.client, sink.at(net.server_addr()))?;
        transfer.wait_for_progress(500_000, SOON)?;

        net.links[0].set_loss(Direction::Up, 5.0)?;
        wait::until("retransmissions", SOON, || {
            let retransmissions = transfer.subflows().map_or(0, |all| all[0].retransmissions);
            if retransmissions > 20 {
                Ok(())
            } else {
                Err(retransmissions)
            }
        });
        net.links[0].set_loss(Direction::Up, 0.0)?;

        net.links[0].blackhole(Direction::Both, true)?;
        let starved = Duration::from_millis(200);
        wait::until_steady("the sink to starve", SOON, starved, || sink.received());
        net.links[0].blackhole(Direction::Both, false)?;
        transfer.wait_for_progress(500_000, SOON)?;
        transfer.stop()?;
    }
    Ok(())
}

#[test]
fn a_device_goes_down_and_comes_back() -> Result<()> {
    require_lab!();
    for (delay_ms, family) in [(0.0, Family::V4), (0.0, Family::V6), (2.0, Family::V6)] {
        let lab = Lab::new()?;
        let path = Path::new("p1")
            .delay_ms(delay_ms)
            .family(family)
            .rate_mbit(20.0);
        let net = lab.two_hosts([path])?;
        let echo = Server::spawn(&net.server, ANY, Behaviour::Echo)?;
        let to = echo.at(net.server_addr());
        let ping = RequestResponse::new(1, Duration::ZERO, 1);
        ping.run_to_end(&net.client, to)?;
        net.links[0].down()?;
        assert!(
            ping.run_to_end(&net.client, to).is_err(),
            "{family:?}: there is no route"
        );
        net.links[0].up()?;
        wait::until("an answer", SOON, || ping.run_to_end(&net.client, to));
    }
    Ok(())
}

#[test]
fn rates_change_while_traffic_runs() -> Result<()> {
    require_lab!();
    for delay_ms in [0.0, 2.0] {
        let lab = Lab::new()?;
        let path = Path::new("p1").rate_mbit(4.0).delay_ms(delay_ms);
        let net = lab.two_hosts([path])?;
        let sink = Server::spawn(&net.server, ANY_V4, Behaviour::Sink)?;
        let bulk = Bulk::upload_for(LONG);
        let transfer = bulk.start(&net.client, sink.at(net.server_addr()))?;
        let seconds_for = |bytes: u64| {
            let (start, goal) = (Instant::now(), sink.received() + bytes);
            wait::until_true("bytes at the sink", SOON, || sink.received() >= goal);
            start.elapsed().as_secs_f64()
        };
        seconds_for(100_000);
        let slow = seconds_for(500_000);
        net.links[0].set_rate_mbit(Direction::Up, 40.0)?;
        seconds_for(500_000);
        let fast = seconds_for(1_500_000) / 3.0;
        assert!(slow > 0.7, "500 kB at 4 Mbit/s in {slow} s");
        assert!(fast < slow / 2.0, "{fast} s at 40 Mbit/s, {slow} s at 4");
        transfer.stop()?;
    }
    Ok(())
}

#[test]
fn one_address_behind_a_router() -> Result<()> {
    require_lab!();
    let lab = Lab::new()?;
    let uplinks = vec![
        Path::new("up1").rate_mbit(30.0),
        Path::new("up2").rate_mbit(30.0),
    ];
    let net = lab.routed(uplinks, Path::new("down"))?;
    let sink = Server::spawn(&net.server, ANY_V4, Behaviour::Sink)?;
    let bulk = Bulk::upload_for(Duration::from_secs(2));
    let transfer = bulk.start(&net.client, sink.at(net.server_addr()))?;
    let subflows = transfer.wait_for_subflows(2, SOON)?;
    assert!(
        subflows
            .iter()
            .all(|subflow| subflow.remote.ip() == net.server_addr())
    );
    let report = transfer.finish()?;
    for link in &net.uplinks {
        let device = net.client.device(&link.name)?;
        assert!(
            device.tx_bytes > report.bytes / 10,
            "{}: {device:?}",
            link.name
        );
        // The acknowledgements come back the same way.
        assert!(device.rx_packets > 20, "{}: {device:?}", link.name);
    }
    Ok(())
}

#[test]
fn plain_tcp_and_fallback_are_told_apart() -> Result<()> {
    require_lab!();
    let lab = Lab::new()?;
    let net = lab.two_hosts([Path::new("p1")])?;
    let to = net.server_addr();
    let tcp = Server::spawn_tcp(&net.server, ANY_V4, Behaviour::Sink)?;
    let mptcp = Server::spawn(&net.server, ANY_V4, Behaviour::Sink)?;
    let bulk = || Bulk::upload_for(LONG).rate_mbit(5.0);

    let plain = bulk().tcp().start(&net.client, mptcp.at(to))?;
    assert!(!kernel::is_mptcp(plain.socket())?);
    assert_eq!(plain.subflows()?.len(), 1);
    let fallen = bulk().start(&net.client, tcp.at(to))?;
    fallen.wait_for_progress(10_000, SOON)?;
    assert!(kernel::mptcp_info(fallen.socket())?.fallback);
    let whole = bulk()
        .congestion("cubic")
        .start(&net.client, mptcp.at(to))?;
    whole.wait_for_progress(10_000, SOON)?;
    assert!(!kernel::mptcp_info(whole.socket())?.fallback);
    assert_eq!(kernel::congestion(whole.socket())?, "cubic");
    for transfer in [plain, fallen, whole] {
        transfer.stop()?;
    }
    Ok(())
}
