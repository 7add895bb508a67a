//! The colours of the live view: the usual ones, those of BUILDKIT_COLORS, or none (NO_COLOR).

/// The sequences that begin a line of each kind; empty for no colour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Palette {
    /// What ended well.
    pub run: String,
    /// What was given up.
    pub cancel: String,
    /// What failed.
    pub error: String,
    /// What should be known.
    pub warning: String,
    /// The line of a platform.
    pub heading: String,
    /// What runs under emulation.
    pub emulated: String,
    /// Output of steps.
    pub faint: String,
}

/// Ends what a sequence began.
pub const RESET: &str = "\x1b[0m";

const NAMES: [&str; 8] = ["black", "red", "green", "yellow", "blue", "magenta", "cyan", "white"];

impl Palette {
    /// Without any colour.
    pub fn none() -> Self {
        let none = String::new;
        Self {
            run: none(),
            cancel: none(),
            error: none(),
            warning: none(),
            heading: none(),
            emulated: none(),
            faint: none(),
        }
    }

    /// The colours that the environment asks for: `no_color` and BUILDKIT_COLORS, such as
    /// `run=green:warning=yellow:error=red:cancel=255,165,0`. What means nothing there is passed over.
    pub fn choose(no_color: bool, colors: Option<&str>) -> Self {
        if no_color {
            return Self::none();
        }
        let code = |code: &str| format!("\x1b[{code}m");
        let mut palette = Self {
            run: code("34"),
            cancel: code("33"),
            error: code("31"),
            warning: code("33"),
            heading: code("1"),
            emulated: code("35"),
            faint: code("2"),
        };
        for field in colors.unwrap_or_default().split(':') {
            let Some((kind, value)) = field.split_once('=') else { continue };
            let Some(sequence) = sequence(&value.trim().to_lowercase()) else { continue };
            match kind.trim().to_lowercase().as_str() {
                "run" => palette.run = sequence,
                "cancel" => palette.cancel = sequence,
                "error" => palette.error = sequence,
                "warning" => palette.warning = sequence,
                _ => {}
            }
        }
        palette
    }
}

/// The sequence of a colour: a name, or red, green and blue from 0 to 255.
fn sequence(value: &str) -> Option<String> {
    if value.contains(',') {
        let parts: Vec<u8> = value.split(',').map(|part| part.trim().parse().ok()).collect::<Option<_>>()?;
        let [red, green, blue] = parts.as_slice() else { return None };
        return Some(format!("\x1b[38;2;{red};{green};{blue}m"));
    }
    if value == "default" {
        return Some("\x1b[39m".to_owned());
    }
    let (base, name) = match value.strip_prefix("light-") {
        Some(name) => (90, name),
        None => (30, value),
    };
    let number = NAMES.iter().position(|known| *known == name)?;
    Some(format!("\x1b[{}m", base + number))
}

#[cfg(test)]
mod tests {
    use super::Palette;

    #[test]
    fn colours_are_chosen_as_buildkit_reads_them() {
        let palette = Palette::choose(false, Some("run=green:cancel=255,165,0:ERROR=light-Blue:warning=nonsense:x"));
        assert_eq!(palette.run, "\x1b[32m");
        assert_eq!(palette.cancel, "\x1b[38;2;255;165;0m");
        assert_eq!(palette.error, "\x1b[94m");
        assert_eq!(palette.warning, Palette::choose(false, None).warning);
        assert_eq!(Palette::choose(false, Some("run=1,2:error=1,2,300")), Palette::choose(false, None));
    }

    #[test]
    fn no_color_wins() {
        assert_eq!(Palette::choose(true, Some("run=green")), Palette::none());
    }
}
