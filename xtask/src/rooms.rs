//! Checks that no rooms use each other in a circle.
//!
//! A room is a module directly below a crate's root, whether a file or a folder,
//! and each folder further down. If a room uses another, directly or through
//! others, the other must not use it. Otherwise a room cannot be read, tested
//! and moved alone. Files of one folder may use each other.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use petgraph::algo::tarjan_scc;
use petgraph::graphmap::DiGraphMap;
use syn::visit::Visit;
use syn::{ItemMod, ItemUse, UseTree};

/// A module's path from its crate's root: `["kernel", "tc"]`.
type Module = Vec<String>;

/// Finds circles in the crates with these root files.
///
/// # Errors
/// There is a circle (the error names its rooms and the files that close it), or
/// a file cannot be read.
pub fn check(roots: &[PathBuf]) -> Result<()> {
    // A library and a program may share one directory.
    let directories: BTreeSet<&Path> = roots.iter().filter_map(|root| root.parent()).collect();
    let mut circles = Vec::new();
    for directory in directories {
        let source = Source::read(directory)?;
        for circle in source.circles() {
            circles.push(format!("{}: {circle}", directory.display()));
        }
    }
    if circles.is_empty() {
        return Ok(());
    }
    bail!(
        "these rooms use each other in a circle: move what they share to one that all may use\n{}",
        circles.join("\n")
    )
}

/// The modules of a crate, and what each uses.
#[derive(Default)]
struct Source {
    modules: BTreeMap<Module, File>,
}

/// One module's file.
#[derive(Default)]
struct File {
    path: PathBuf,
    /// The paths of this crate that the file names: modules, and items in them.
    uses: BTreeSet<Module>,
}

impl Source {
    fn read(directory: &Path) -> Result<Self> {
        let mut source = Self::default();
        source.enter(directory, &[])?;
        Ok(source)
    }

    fn enter(&mut self, directory: &Path, parent: &[String]) -> Result<()> {
        let cannot = || format!("cannot read {}", directory.display());
        for entry in fs::read_dir(directory).with_context(cannot)? {
            let path = entry.with_context(cannot)?.path();
            let name = path.file_stem().and_then(|name| name.to_str());
            let name = name.context("a name that is not UTF-8")?;
            let module = [parent, &[name.to_owned()]].concat();
            if path.is_dir() {
                self.enter(&path, &module)?;
            } else if path.extension().is_some_and(|end| end == "rs") {
                let is_root = parent.is_empty() && ["lib", "main"].contains(&name);
                if !is_root {
                    let text = fs::read_to_string(&path).with_context(cannot)?;
                    let uses = uses(&text, &module)
                        .with_context(|| format!("cannot parse {}", path.display()))?;
                    self.modules.insert(module, File { path, uses });
                }
            }
        }
        Ok(())
    }

    /// Returns the rooms of a module and of what it uses: the first parts in which
    /// their paths differ.
    fn edge<'a>(&self, from: &'a Module, to: &'a Module) -> Option<(&'a [String], &'a [String])> {
        let common = from.iter().zip(to).take_while(|(a, b)| a == b).count();
        let (from, to) = (from.get(..=common)?, to.get(..=common)?);
        let is_room = |room: &[String]| {
            let below = |module: &Module| module.len() > room.len() && module.starts_with(room);
            self.modules.contains_key(room) && (common == 0 || self.modules.keys().any(below))
        };
        (is_room(from) && is_room(to)).then_some((from, to))
    }

    fn circles(&self) -> Vec<String> {
        let mut graph = DiGraphMap::<&[String], ()>::new();
        let mut because: BTreeMap<_, &Path> = BTreeMap::new();
        for (module, file) in &self.modules {
            for used in &file.uses {
                if let Some((from, to)) = self.edge(module, used) {
                    graph.add_edge(from, to, ());
                    because.insert((from, to), &file.path);
                }
            }
        }
        let describe = |rooms: Vec<&[String]>| {
            let names: BTreeSet<_> = rooms.iter().map(|room| room.join("::")).collect();
            let within = because
                .iter()
                .filter(|((from, to), _)| rooms.contains(from) && rooms.contains(to))
                .map(|((from, to), path)| {
                    let (from, to) = (from.join("::"), to.join("::"));
                    format!("\n  {from} uses {to} in {}", path.display())
                });
            let names: Vec<_> = names.into_iter().collect();
            format!("{}{}", names.join(", "), within.collect::<String>())
        };
        tarjan_scc(&graph)
            .into_iter()
            .filter(|rooms| rooms.len() > 1)
            .map(describe)
            .collect()
    }
}

/// Returns the paths below `crate` that a file names, by `crate` or by `super`.
fn uses(text: &str, module: &[String]) -> syn::Result<BTreeSet<Module>> {
    let mut visitor = Visitor {
        module: module.to_vec(),
        uses: BTreeSet::new(),
    };
    visitor.visit_file(&syn::parse_file(text)?);
    Ok(visitor.uses)
}

struct Visitor {
    module: Module,
    uses: BTreeSet<Module>,
}

impl Visitor {
    fn name(&mut self, path: &[String]) {
        let ups = path.iter().take_while(|name| *name == "super").count();
        let base = match path.first().map(String::as_str) {
            Some("crate") => Some((&self.module[..0], &path[1..])),
            Some("super") => self
                .module
                .len()
                .checked_sub(ups)
                .map(|left| (&self.module[..left], &path[ups..])),
            _ => None,
        };
        if let Some((base, rest)) = base {
            self.uses.insert([base, rest].concat());
        }
    }

    fn tree(&mut self, tree: &UseTree, before: &[String]) {
        let with = |name: &syn::Ident| [before, &[name.to_string()]].concat();
        match tree {
            UseTree::Path(path) => self.tree(&path.tree, &with(&path.ident)),
            UseTree::Name(name) => self.name(&with(&name.ident)),
            UseTree::Rename(rename) => self.name(&with(&rename.ident)),
            UseTree::Glob(_) => self.name(before),
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.tree(tree, before);
                }
            }
        }
    }
}

impl<'ast> Visit<'ast> for Visitor {
    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.tree(&item.tree, &[]);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Vec<_> = path
            .segments
            .iter()
            .map(|segment| segment.ident.to_string())
            .collect();
        self.name(&names);
        syn::visit::visit_path(self, path);
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        self.module.push(item.ident.to_string());
        syn::visit::visit_item_mod(self, item);
        self.module.pop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(files: &[(&str, &str)]) -> Source {
        let mut source = Source::default();
        for (path, text) in files {
            let module: Module = path.split('/').map(str::to_owned).collect();
            let uses = uses(text, &module).expect("a file that parses");
            let path = PathBuf::from(format!("{path}.rs"));
            source.modules.insert(module, File { path, uses });
        }
        source
    }

    #[test]
    fn a_circle_is_named_with_its_files() {
        let found = source(&[
            ("a", "use crate::{b::Thing, c};"),
            ("b", "mod inner;"),
            ("b/inner", "fn f() -> super::super::c::It { todo!() }"),
            ("c", "use crate::a;"),
        ])
        .circles();
        assert_eq!(
            found,
            [
                "a, b, c\n  a uses b in a.rs\n  a uses c in a.rs\n  b uses c in b/inner.rs\n  \
              c uses a in c.rs"
            ]
        );
    }

    #[test]
    fn files_of_a_folder_and_parents_may_use_each_other() {
        let found = source(&[
            ("a", "use inner::It; mod inner;"),
            ("a/inner", "use super::other; use crate::a::It;"),
            ("a/other", "use super::inner; mod tests { use super::*; }"),
            ("b", "use crate::a;"),
        ])
        .circles();
        assert_eq!(found, [""; 0]);
    }

    #[test]
    fn folders_further_down_count() {
        let found = source(&[
            ("a", ""),
            ("a/one", "use super::two::It;"),
            ("a/one/x", ""),
            ("a/two", ""),
            ("a/two/y", "use crate::a::one;"),
        ])
        .circles();
        assert_eq!(
            found,
            [
                "a::one, a::two\n  a::one uses a::two in a/one.rs\n  a::two uses a::one in a/two/y.rs"
            ]
        );
    }
}
