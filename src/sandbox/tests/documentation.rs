//! The table in `docs/sandbox.md` names every item of the checklist, and only tests that there are.

use std::fs;
use std::path::{Path, PathBuf};

fn sources(folder: &Path, found: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path: PathBuf = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path
            .extension()
            .is_some_and(|kind| ["rs", "py", "js"].iter().any(|known| kind == *known))
        {
            found.push_str(&fs::read_to_string(path).unwrap());
        }
    }
}

#[test]
fn documentation_has_every_item_once_and_its_tests_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut code = String::new();
    sources(&root.join("src/sandbox"), &mut code);
    sources(&root.join("tests"), &mut code);
    let page = fs::read_to_string(root.join("docs/sandbox.md")).unwrap();
    for (letter, last) in [('A', 11), ('R', 7), ('L', 17), ('W', 22), ('M', 9), ('H', 34), ('T', 5)]
    {
        for number in 1..=last {
            let item = format!("| {letter}{number} |");
            let lines: Vec<&str> = page.lines().filter(|line| line.starts_with(&item)).collect();
            let [line] = lines.as_slice() else { panic!("{item} has {} lines", lines.len()) };
            let named: Vec<&str> =
                line.split('`').skip(1).step_by(2).filter(|name| name.contains('_')).collect();
            assert!(!named.is_empty() || line.contains("not covered, because"), "{line}");
            for name in named {
                assert!(
                    code.contains(&format!("fn {name}(")) || code.contains(&format!("pub {name}:")),
                    "{item} names {name}, which is not there"
                );
            }
        }
    }
}
