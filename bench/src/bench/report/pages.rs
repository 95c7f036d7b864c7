//! Fills in the marked blocks of the documentation from the results.
//!
//! A block begins with a comment of its own line and ends with another. There are
//! three kinds:
//!
//! ```text
//! <!-- table: loss -->         a table
//! <!-- about: redundant -->    where and when it was measured, and what missed its target
//! <!-- plot: latency-loss -->  a plot
//! <!-- end -->
//! ```

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::groups;
use super::plots::Plot;
use super::results::{Results, Row, write_whole};
use super::tables::Table;

const END: &str = "<!-- end -->";
/// How many rows that miss a target are named.
const NAMED: usize = 12;

/// Returns the pages of a directory that have blocks.
///
/// # Errors
/// A page cannot be read.
pub fn with_blocks(docs: &Path) -> Result<Vec<PathBuf>> {
    let mut pages = Vec::new();
    for entry in fs::read_dir(docs).with_context(|| format!("cannot read {}", docs.display()))? {
        let path = entry?.path();
        let is_page = path.extension().is_some_and(|extension| extension == "md");
        if is_page && fs::read_to_string(&path)?.lines().any(|line| line == END) {
            pages.push(path);
        }
    }
    pages.sort();
    Ok(pages)
}

/// Fills in the blocks of all pages of a directory. Returns the pages that changed.
///
/// # Errors
/// A page cannot be read or written, or has a block that is not known.
pub fn fill_all(docs: &Path, results: &Results) -> Result<Vec<PathBuf>> {
    let mut changed = Vec::new();
    for page in with_blocks(docs)? {
        let old = fs::read_to_string(&page)?;
        let new = fill(&old, results).with_context(|| page.display().to_string())?;
        if new != old {
            write_whole(&page, &new)?;
            changed.push(page);
        }
    }
    Ok(changed)
}

/// Returns the text of a page with its blocks filled in.
///
/// # Errors
/// A block is not known, or has no end.
pub fn fill(page: &str, results: &Results) -> Result<String> {
    let (mut text, mut lines) = (String::new(), page.lines());
    while let Some(line) = lines.next() {
        text += line;
        text.push('\n');
        let Some((kind, name)) = mark(line) else {
            continue;
        };
        let block = match kind {
            "table" => table(name, results)?,
            "about" => about(name, results)?,
            "plot" => plot(name, results)?,
            _ => bail!("{line}: there are blocks for a table, an about and a plot"),
        };
        if !lines.any(|line| line == END) {
            bail!("{line}: no line {END} follows");
        }
        text += &format!("\n{block}\n\n{END}\n");
    }
    Ok(text)
}

/// Returns the kind and the name of a block that begins in this line.
fn mark(line: &str) -> Option<(&str, &str)> {
    let inside = line.strip_prefix("<!-- ")?.strip_suffix(" -->")?;
    inside.split_once(": ")
}

fn table(name: &str, results: &Results) -> Result<String> {
    let table = Table::named(name).with_context(|| format!("there is no table {name:?}"))?;
    let group = results.groups.get(table.group);
    let text = group.and_then(|group| table.markdown(group));
    Ok(text.unwrap_or_else(|| not_measured(table.group)))
}

fn plot(name: &str, results: &Results) -> Result<String> {
    let plot = Plot::named(name).with_context(|| format!("there is no plot {name:?}"))?;
    Ok(match plot.draw(results)? {
        Some(_) => format!("![{}]({})", plot.about, plot.link()),
        None => not_measured(plot.group),
    })
}

fn not_measured(group: &str) -> String {
    format!("*Not measured yet: `cargo xtask bench report --docs --only {group}`.*")
}

/// Says where and when a group was measured, and which rows missed their targets.
fn about(name: &str, results: &Results) -> Result<String> {
    if !groups::ALL.iter().any(|one| one.name == name) {
        bail!("there is no benchmark {name:?}");
    }
    let Some(group) = results.groups.get(name) else {
        return Ok(not_measured(name));
    };
    let mut sentences = Vec::new();
    for (what, header) in &results.headers {
        if what == name {
            sentences.push(header.sentence());
        } else if let Some(words) = what.strip_prefix(&format!("{name} ")) {
            sentences.push(format!("Rows with `{words}`: {}", header.sentence()));
        }
    }
    let of = |ok: bool| -> Vec<&Row> {
        let rows = group.rows.iter();
        rows.filter(|row| row.ok() == Some(ok)).collect()
    };
    let (ok, over) = (of(true), of(false));
    if ok.len() + over.len() > 0 {
        sentences.push(match over.len() {
            0 => format!("All {} rows with targets met them.", ok.len()),
            missed => format!(
                "Of {} rows with targets, {} met them, and {missed} did not{}.",
                ok.len() + missed,
                ok.len(),
                names(&over)
            ),
        });
    }
    let broken = group.rows.iter().filter(|row| row.is_broken()).count();
    if broken > 0 {
        sentences.push(format!("{broken} rows could not be measured."));
    }
    Ok(sentences.join(" "))
}

fn names(rows: &[&Row]) -> String {
    let names: Vec<String> = rows.iter().map(|row| format!("`{}`", row.name)).collect();
    let named = names[..names.len().min(NAMED)].join(", ");
    match names.len().saturating_sub(NAMED) {
        0 => format!(": {named}"),
        more => format!(": {named} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::COMMITTED;
    use super::super::results::tests::{results, row};
    use super::*;

    fn root() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
    }

    #[test]
    fn blocks_are_replaced_and_the_rest_stays() -> Result<()> {
        let page = "a\n<!-- table: loss -->\nold\n<!-- end -->\nb\n<!-- about: redundant -->\n\
                    <!-- end -->\n";
        let rows = vec![
            row("loss a", &[("ok", "true")]),
            row("loss b", &[("ok", "false")]),
            row("loss c", &[("broken", "x")]),
        ];
        let filled = fill(page, &results("redundant", rows))?;
        assert!(filled.starts_with("a\n<!-- table: loss -->\n\n| round trip"));
        assert!(!filled.contains("old"));
        assert!(filled.contains(
            "Of 2 rows with targets, 1 met them, and 1 did not: `loss b`. 1 rows could not"
        ));
        // Filling in again changes nothing.
        let rows = vec![row("loss a", &[("ok", "true")])];
        let all = results("redundant", rows);
        let once = fill(&filled, &all)?;
        assert_eq!(fill(&once, &all)?, once);
        Ok(())
    }

    #[test]
    fn a_block_that_is_not_known_is_an_error() {
        let fails = |page: &str| fill(page, &Results::default()).is_err();
        assert!(fails("<!-- table: nothing -->\n<!-- end -->\n"));
        assert!(fails("<!-- about: nothing -->\n<!-- end -->\n"));
        assert!(fails("<!-- plot: nothing -->\n<!-- end -->\n"));
        assert!(fails("<!-- figure: loss -->\n<!-- end -->\n"));
        assert!(fails("<!-- table: loss -->\n"));
        assert!(!fails("<!-- a comment -->\n"));
    }

    #[test]
    fn what_was_not_measured_says_how_to_measure_it() -> Result<()> {
        let filled = fill("<!-- table: loss -->\n<!-- end -->\n", &Results::default())?;
        assert!(filled.contains("`cargo xtask bench report --docs --only redundant`"));
        Ok(())
    }

    /// The pages hold what the committed results give; `cargo xtask bench report
    /// --docs --draw` makes it so.
    #[test]
    fn the_documentation_agrees_with_the_results() -> Result<()> {
        let docs = root().join("docs");
        let results = Results::read(&root().join(COMMITTED))?;
        let pages = with_blocks(&docs)?;
        assert!(pages.iter().any(|page| page.ends_with("benchmarks.md")));
        for page in pages {
            let text = fs::read_to_string(&page)?;
            let same = fill(&text, &results)? == text;
            let page = page.display();
            assert!(same, "{page}: run `cargo xtask bench report --docs --draw`");
        }
        for plot in super::super::plots::ALL {
            let file = docs.join(plot.link());
            let drawn = plot.draw(&results)?;
            let there = fs::read_to_string(&file).ok();
            let file = file.display();
            assert!(
                drawn == there,
                "{file}: run `cargo xtask bench report --docs --draw`"
            );
        }
        Ok(())
    }
}
