//! Chooses the way by which a program gets its MPTCP sockets, or says why none
//! works.

use std::path::PathBuf;

use super::target::{Linkage, Target};
use crate::cli::WayArg;

/// A way that works for the program.
#[derive(Debug, PartialEq, Eq)]
pub enum Way {
    /// A BPF program for a cgroup that the program runs in.
    Bpf,
    /// The agent's own library, at this place, in `LD_PRELOAD`.
    Preload(PathBuf),
    /// The installed mptcpize.
    Mptcpize(PathBuf),
    /// The environment alone, for a static program of Go.
    Go,
}

impl Way {
    /// Says in one line what the program gets.
    pub fn describe(&self) -> String {
        match self {
            Self::Bpf => {
                "by bpf: a program on update_socket_protocol, for a cgroup of its own".into()
            }
            Self::Preload(library) => format!(
                "by preload: {} in LD_PRELOAD, and GODEBUG=multipathtcp=1",
                library.display()
            ),
            Self::Mptcpize(program) => format!(
                "by mptcpize: {} run, and GODEBUG=multipathtcp=1",
                program.display()
            ),
            Self::Go => "by GODEBUG=multipathtcp=1: a static program of Go (1.21 or later)".into(),
        }
    }
}

/// The means that this host offers.
pub struct Means<'a> {
    /// Attaches the BPF program, or says why that cannot be.
    pub bpf: &'a dyn Fn() -> Result<(), String>,
    /// Whether this process has the rights to load BPF programs. If it has, a refusal
    /// is unexpected and worth a line.
    pub may_load_programs: bool,
    /// Returns the place of the preload library, or why there is none.
    pub library: &'a dyn Fn() -> Result<PathBuf, String>,
    /// Returns the place of mptcpize, if it is installed.
    pub mptcpize: &'a dyn Fn() -> Option<PathBuf>,
}

/// The way that was chosen.
#[derive(Debug, PartialEq, Eq)]
pub struct Choice {
    /// The way.
    pub way: Way,
    /// Why it is not BPF, if it could have been.
    pub not_bpf: Option<String>,
}

/// Chooses a way for a program.
///
/// # Errors
/// The way that is asked for, or every way, cannot work; one line says why, and
/// what would.
pub fn choose(asked: WayArg, target: &Target, means: &Means<'_>) -> Result<Choice, String> {
    let mut not_bpf = None;
    if asked == WayArg::Bpf || (asked == WayArg::Auto && means.may_load_programs) {
        match (means.bpf)() {
            Ok(()) => {
                return Ok(Choice {
                    way: Way::Bpf,
                    not_bpf,
                });
            }
            Err(why) if asked == WayArg::Bpf => return Err(why),
            Err(why) => not_bpf = Some(why),
        }
    }
    match without_bpf(asked, target, means) {
        Ok(way) => Ok(Choice { way, not_bpf }),
        Err(why) => Err(match not_bpf {
            Some(not_bpf) => format!("{why} (bpf: {not_bpf})"),
            None => why,
        }),
    }
}

fn without_bpf(asked: WayArg, target: &Target, means: &Means<'_>) -> Result<Way, String> {
    if asked == WayArg::Auto && target.is_go && target.linkage == Some(Linkage::Static) {
        return Ok(Way::Go);
    }
    if let Some(why) = ignores_libraries(target) {
        return Err(why);
    }
    let mptcpize = || {
        (means.mptcpize)().map(Way::Mptcpize).ok_or(
            "mptcpize is not on PATH: install it (apt install mptcpize), or use --way preload",
        )
    };
    match asked {
        WayArg::Preload => (means.library)().map(Way::Preload),
        WayArg::Mptcpize => mptcpize().map_err(str::to_owned),
        WayArg::Auto | WayArg::Bpf => (means.library)()
            .map(Way::Preload)
            .or_else(|why| mptcpize().map_err(|_| why)),
    }
}

/// Says why no library reaches a program, if that is so.
fn ignores_libraries(target: &Target) -> Option<String> {
    let file = target.file.display();
    if let Some(privilege) = target.privilege {
        return Some(format!(
            "{file} {privilege}, and such programs ignore LD_PRELOAD: use --way bpf, or run it as \
             the user whose rights it takes"
        ));
    }
    match target.linkage {
        Some(Linkage::Static) if target.is_go => Some(format!(
            "{file} is a static program of Go, which LD_PRELOAD does not reach: use --way auto, \
             which sets GODEBUG=multipathtcp=1"
        )),
        Some(Linkage::Static) => Some(format!(
            "{file} is statically linked, and LD_PRELOAD does not reach such programs: use \
             --way bpf, a dynamically linked build, or the program's own setting for MPTCP"
        )),
        Some(Linkage::Foreign) => Some(format!(
            "{file} is built for another machine than this agent ({}), so its loader cannot load \
             the library: use an agent that is built for the same",
            std::env::consts::ARCH
        )),
        Some(Linkage::Dynamic) | None => None,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn target(linkage: Option<Linkage>) -> Target {
        Target {
            file: "/bin/x".into(),
            linkage,
            privilege: None,
            is_go: false,
        }
    }

    fn with(library: bool, mptcpize: bool, asked: WayArg, target: &Target) -> Result<Way, String> {
        let means = Means {
            bpf: &|| Err("no bpf".to_owned()),
            may_load_programs: false,
            library: &|| {
                library
                    .then(|| "/l.so".into())
                    .ok_or("no library".to_owned())
            },
            mptcpize: &|| mptcpize.then(|| "/m".into()),
        };
        choose(asked, target, &means).map(|choice| choice.way)
    }

    #[test]
    fn bpf_comes_first_for_those_who_may() {
        let of = |works: bool, may: bool, asked, target: &Target| {
            let means = Means {
                bpf: &|| works.then_some(()).ok_or("refused".to_owned()),
                may_load_programs: may,
                library: &|| Ok("/l.so".into()),
                mptcpize: &|| None,
            };
            choose(asked, target, &means)
        };
        let (fixed, plain) = (target(Some(Linkage::Static)), target(None));
        let bpf = Ok(Choice {
            way: Way::Bpf,
            not_bpf: None,
        });
        assert_eq!(of(true, true, WayArg::Auto, &fixed), bpf);
        assert_eq!(of(true, false, WayArg::Bpf, &fixed), bpf);
        let preload = |not_bpf: Option<&str>| {
            Ok(Choice {
                way: Way::Preload("/l.so".into()),
                not_bpf: not_bpf.map(str::to_owned),
            })
        };
        assert_eq!(of(true, false, WayArg::Auto, &plain), preload(None));
        assert_eq!(of(true, true, WayArg::Preload, &plain), preload(None));
        assert_eq!(
            of(false, true, WayArg::Auto, &plain),
            preload(Some("refused"))
        );
        assert_eq!(of(false, true, WayArg::Bpf, &plain).unwrap_err(), "refused");
        let why = of(false, true, WayArg::Auto, &fixed).unwrap_err();
        assert!(why.ends_with("(bpf: refused)"), "{why}");
    }

    #[test]
    fn the_library_comes_before_mptcpize() {
        let plain = target(Some(Linkage::Dynamic));
        let of = |library, mptcpize, asked| with(library, mptcpize, asked, &plain);
        let (preload, mptcpize) = (Way::Preload("/l.so".into()), Way::Mptcpize("/m".into()));
        assert_eq!(of(true, true, WayArg::Auto), Ok(preload));
        assert_eq!(of(false, true, WayArg::Auto).as_ref(), Ok(&mptcpize));
        assert_eq!(of(true, true, WayArg::Mptcpize), Ok(mptcpize));
        assert_eq!(of(false, false, WayArg::Auto).unwrap_err(), "no library");
        assert_eq!(of(false, true, WayArg::Preload).unwrap_err(), "no library");
        let none = of(true, false, WayArg::Mptcpize).unwrap_err();
        assert!(none.contains("not on PATH"), "{none}");
        let unknown = with(true, true, WayArg::Auto, &target(None));
        assert!(unknown.is_ok(), "{unknown:?}");
    }

    #[test]
    fn what_no_library_reaches_is_refused() {
        let refusal = |target: &Target, what: &str| {
            for asked in [WayArg::Auto, WayArg::Preload, WayArg::Mptcpize] {
                let why = with(true, true, asked, target).unwrap_err();
                assert!(why.contains(what) && why.contains("/bin/x"), "{why}");
            }
        };
        refusal(&target(Some(Linkage::Static)), "statically linked");
        refusal(&target(Some(Linkage::Foreign)), "another machine");
        let setuid = Target {
            privilege: Some("is setuid"),
            ..target(Some(Linkage::Dynamic))
        };
        refusal(&setuid, "is setuid");
    }

    #[test]
    fn go_needs_no_library_where_none_reaches_it() {
        let go = |linkage| Target {
            is_go: true,
            ..target(Some(linkage))
        };
        let of = |asked, linkage| with(true, true, asked, &go(linkage));
        assert_eq!(of(WayArg::Auto, Linkage::Static), Ok(Way::Go));
        let why = of(WayArg::Preload, Linkage::Static).unwrap_err();
        assert!(why.contains("--way auto"), "{why}");
        let dynamic = of(WayArg::Auto, Linkage::Dynamic);
        assert!(matches!(dynamic, Ok(Way::Preload(_))), "{dynamic:?}");
    }
}
