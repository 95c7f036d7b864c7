//! How the page looks: narrow and wide, light and dark, for the keyboard and for screen
//! readers.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use super::browser::require_browser;
use super::{Scene, is_live};
use crate::support::{require_agent, upload};

/// The least contrast of any text on its ground (WCAG 2.2, AA, is 4.5), and where.
const CONTRAST: &str = "(() => {
    const channels = (colour) => colour.match(/[0-9.]+/g).map(Number);
    const light = (colour) => channels(colour).slice(0, 3).map((channel) => {
        const part = channel / 255;
        return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    }).reduce((sum, part, index) => sum + part * [0.2126, 0.7152, 0.0722][index], 0);
    const ground = (node) => {
        for (; node; node = node.parentElement) {
            const colour = getComputedStyle(node).backgroundColor;
            const [, , , alpha = 1] = channels(colour);
            if (alpha > 0) return colour;
        }
    };
    let least = [99, ''];
    for (const node of document.querySelectorAll('body *')) {
        const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
        if (!own || !node.checkVisibility() || node.closest('noscript, .skip')) continue;
        const [one, other] = [light(getComputedStyle(node).color), light(ground(node))];
        const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
        if (contrast < least[0]) least = [contrast, node.outerHTML.slice(0, 200)];
    }
    return least;
})()";

/// How many pixels the page, or anything in it, is wider than its place.
const OVERHANG: &str = "Math.max(document.documentElement.scrollWidth - innerWidth,
    ...[...document.querySelectorAll('main *')].filter((node) => node.checkVisibility()
        && !(node instanceof SVGElement) && !node.closest('thead'))
        .map((node) => node.getBoundingClientRect().right - innerWidth))";

#[test]
fn nothing_is_cut_off_at_360_pixels_and_text_is_readable_in_both_schemes() -> Result<()> {
    let binary = require_agent!();
    require_browser!();
    let mut scene = Scene::new(&binary)?;
    let (_sink, transfer) = upload(&scene.net, 2)?;
    scene.settle(&transfer)?;
    let browser = &mut scene.browser;
    let mut grounds = BTreeSet::new();
    for scheme in ["light", "dark"] {
        for width in [360, 700, 1280] {
            browser.show(width, 800, scheme)?;
            let overhang = browser.evaluate(OVERHANG)?;
            ensure!(
                overhang.as_f64() <= Some(0.0),
                "{width} pixels: {overhang} too many"
            );
        }
        let least = browser.evaluate(CONTRAST)?;
        println!("{scheme}: the least contrast is {least}");
        ensure!(least[0].as_f64() >= Some(4.5), "{scheme}: {least}");
        let ground = browser.evaluate("getComputedStyle(document.body).backgroundColor")?;
        grounds.insert(ground.to_string());
    }
    assert_eq!(grounds.len(), 2, "light and dark differ");
    transfer.stop()?;
    let complaints = scene.browser.complaints()?;
    ensure!(complaints.is_empty(), "{complaints:#?}");
    scene.agent.stop()
}

#[test]
fn keyboard_and_screen_reader_reach_everything() -> Result<()> {
    let binary = require_agent!();
    require_browser!();
    let mut scene = Scene::new(&binary)?;
    let (_sink, transfer) = upload(&scene.net, 2)?;
    scene.settle(&transfer)?;
    let browser = &mut scene.browser;
    // On a narrow page, too, where rows are blocks, a table is a table.
    browser.show(360, 800, "light")?;
    let tree = browser.call("Accessibility.getFullAXTree", &json!({}))?;
    let nodes = tree["nodes"].as_array().context("no tree")?;
    let nodes = nodes.iter().filter(|node| node["ignored"] != true);
    let roles: BTreeSet<&str> = nodes
        .filter_map(|node| node["role"]["value"].as_str())
        .collect();
    for role in [
        "banner",
        "main",
        "contentinfo",
        "navigation",
        "region",
        "heading",
        "list",
        "table",
        "columnheader",
        "rowheader",
        "cell",
        "status",
        "log",
        "button",
    ] {
        ensure!(roles.contains(role), "no {role} in {roles:?}");
    }
    // The first stop leads past the head; later stops close and open a connection.
    let focused = "document.activeElement.outerHTML.slice(0, 200)";
    browser.press("Tab", 9)?;
    let first = browser.evaluate(focused)?;
    ensure!(
        first.as_str().is_some_and(|html| html.contains("skip")),
        "{first}"
    );
    let on_connection = "document.activeElement.classList.contains('open-subflows')";
    for _ in 0..4 {
        if browser.evaluate(on_connection)? == true {
            break;
        }
        browser.press("Tab", 9)?;
    }
    browser.wait_for(on_connection)?;
    let outline = "getComputedStyle(document.activeElement).outlineStyle";
    assert_eq!(browser.evaluate(outline)?, "solid");
    browser.press("Enter", 13)?;
    browser.wait_for("document.querySelectorAll('tr.subflow').length === 0")?;
    browser.press("Enter", 13)?;
    browser.wait_for("document.querySelectorAll('tr.subflow').length === 2")?;
    // The focus stays where it is while the page changes.
    let up = browser.evaluate("document.querySelector('#summary').textContent")?;
    browser.wait_for(&format!(
        "document.querySelector('#summary').textContent !== {up}"
    ))?;
    ensure!(
        browser.evaluate(on_connection)? == true,
        "{}",
        browser.evaluate(focused)?
    );
    // A page that is paused rests.
    browser.evaluate("document.getElementById('pause').click()")?;
    browser.wait_for("document.getElementById('reached').textContent.includes('paused')")?;
    browser.evaluate("document.getElementById('pause').click()")?;
    browser.wait_for(is_live())?;
    transfer.stop()?;
    scene.agent.stop()
}
