//! What can be a path inside a share.

/// Why a path cannot lie inside a share; `None` when it can.
pub(crate) fn path_trouble(path: &str) -> Option<&'static str> {
    if path.is_empty() {
        return Some("is empty");
    }
    if path.starts_with('/') {
        return Some("is absolute: paths begin at the share");
    }
    if path.contains('\0') {
        return Some("has a NUL in it");
    }
    // PATH_MAX and NAME_MAX of Linux.
    if path.len() > 4095 || path.split('/').any(|part| part.len() > 255) {
        return Some("is longer than a file system takes");
    }
    for part in path.split('/') {
        match part {
            ".." => return Some("leads out of the share"),
            "." | "" => return Some("has an empty part"),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_inside_the_share_are_taken() {
        for good in ["a", "d/x", ".hidden", "..x/y..", "-dash", "a b", "ä/ö"] {
            assert_eq!(path_trouble(good), None, "{good}");
        }
        let long = "x".repeat(256);
        for bad in [
            "", "/etc", "..", "a/../b", "a/..", ".", "a//b", "a/", "./a", "a\0b", &long,
        ] {
            assert!(path_trouble(bad).is_some(), "{bad}");
        }
    }
}
