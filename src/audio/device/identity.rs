//! Which card is meant. ALSA's card numbers change at each boot; the USB port and the card's own numbers do not.
//!
//! Everything is read from sysfs (`/sys/class/sound`): `/proc/asound` is masked in containers.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

/// What a configuration's `device` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// `usb-path:1-1.3[,PCM]`: whatever card is plugged into that USB port.
    UsbPath { path: String, pcm: Option<u32> },
    /// `usb-id:0d8c:0014[:SERIAL][,PCM]`: that card, in whatever port.
    UsbId { vendor: String, product: String, serial: Option<String>, pcm: Option<u32> },
    /// `card:NAME[,PCM]`: the card with that id of ALSA's (`Device`, `sndrpihifiberry`).
    Card { name: String, pcm: Option<u32> },
    /// Any other: ALSA's name of a device, as it is.
    Alsa(String),
}

/// One sound card with something to capture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Card {
    /// ALSA's number, until the next boot.
    pub number: u32,
    /// ALSA's id of it.
    pub id: String,
    /// Numbers of its capture devices, ascending.
    pub pcms: Vec<u32>,
    pub usb: Option<Usb>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usb {
    /// Port, such as `1-1.3`: bus 1, port 1, then port 3 of the hub there.
    pub path: String,
    /// Four hex digits each.
    pub vendor: String,
    pub product: String,
    pub serial: Option<String>,
    /// What the device calls itself.
    pub name: Option<String>,
}

/// What is to be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// ALSA's name.
    pub name: String,
    /// Number of the card and of its capture device, where it is one.
    pub card: Option<(u32, u32)>,
}

impl FromStr for Selector {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fault = |expected: &str| format!("expected {expected}, found {text:?}");
        let Some((kind, rest)) =
            text.split_once(':').filter(|(kind, _)| matches!(*kind, "usb-path" | "usb-id" | "card"))
        else {
            return if text.trim().is_empty() { Err(fault("a device")) } else { Ok(Selector::Alsa(text.to_owned())) };
        };
        let (rest, pcm) = match rest.rsplit_once(',') {
            // A serial may contain commas.
            Some((rest, pcm)) if kind != "usb-id" || pcm.parse::<u32>().is_ok() => {
                (rest, Some(pcm.parse().map_err(|_| fault("a number after the comma"))?))
            }
            Some(_) => (rest, None),
            None => (rest, None),
        };
        match kind {
            "usb-path" => {
                let valid = rest.split_once('-').is_some_and(|(bus, ports)| {
                    let number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
                    number(bus) && ports.split('.').all(number)
                });
                if !valid {
                    return Err(fault("usb-path:BUS-PORT[.PORT...], such as usb-path:1-1.3"));
                }
                Ok(Selector::UsbPath { path: rest.to_owned(), pcm })
            }
            "usb-id" => {
                let mut parts = rest.splitn(3, ':');
                let mut hex = || {
                    let part = parts.next().filter(|part| part.len() == 4)?;
                    part.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| part.to_ascii_lowercase())
                };
                let (Some(vendor), Some(product)) = (hex(), hex()) else {
                    return Err(fault(
                        "usb-id:VENDOR:PRODUCT[:SERIAL] with four hex digits each, such as usb-id:0d8c:0014",
                    ));
                };
                Ok(Selector::UsbId { vendor, product, serial: parts.next().map(str::to_owned), pcm })
            }
            _ if rest.is_empty() => Err(fault("card:NAME")),
            _ => Ok(Selector::Card { name: rest.to_owned(), pcm }),
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pcm = match self {
            Selector::UsbPath { path, pcm } => write!(f, "usb-path:{path}").map(|()| pcm),
            Selector::UsbId { vendor, product, serial, pcm } => {
                write!(f, "usb-id:{vendor}:{product}")?;
                serial.iter().try_for_each(|serial| write!(f, ":{serial}")).map(|()| pcm)
            }
            Selector::Card { name, pcm } => write!(f, "card:{name}").map(|()| pcm),
            Selector::Alsa(name) => return f.write_str(name),
        }?;
        pcm.iter().try_for_each(|pcm| write!(f, ",{pcm}"))
    }
}

impl Selector {
    fn pcm(&self) -> Option<u32> {
        match self {
            Selector::UsbPath { pcm, .. } | Selector::UsbId { pcm, .. } | Selector::Card { pcm, .. } => *pcm,
            Selector::Alsa(_) => None,
        }
    }

    fn means(&self, card: &Card) -> bool {
        match (self, &card.usb) {
            (Selector::UsbPath { path, .. }, Some(usb)) => *path == usb.path,
            (Selector::UsbId { vendor, product, serial, .. }, Some(usb)) => {
                *vendor == usb.vendor && *product == usb.product && (serial.is_none() || *serial == usb.serial)
            }
            (Selector::Card { name, .. }, _) => *name == card.id,
            _ => false,
        }
    }

    /// Whether both mean the same device: a card can be opened once, however it is called.
    pub fn is_same(&self, other: &Selector, cards: &[Card]) -> bool {
        let card = |selector: &Selector| selector.resolve(cards).ok()?.card;
        self == other || card(self).is_some_and(|found| card(other) == Some(found))
    }

    /// Finds what is meant among the `cards` that are there now.
    ///
    /// # Errors
    /// One line: no such card, or several, with what could be written instead.
    pub fn resolve(&self, cards: &[Card]) -> Result<Target, String> {
        if let Selector::Alsa(name) = self {
            return Ok(Target { name: name.clone(), card: card_of(name, cards) });
        }
        let meant: Vec<_> = cards.iter().filter(|card| self.means(card)).collect();
        let card = match meant.as_slice() {
            [card] => card,
            [] if cards.is_empty() => return Err(format!("{self}: not there; this computer has no capture card")),
            [] => return Err(format!("{self}: not there; there are {}", list(cards.iter()))),
            several => {
                return Err(format!(
                    "{self}: could be any of {}: use what tells them apart",
                    list(several.iter().copied())
                ));
            }
        };
        let pcm = self.pcm().or(card.pcms.first().copied()).filter(|pcm| card.pcms.contains(pcm));
        let Some(pcm) = pcm else {
            return Err(format!("{self}: the card has no such capture device; it has {:?}", card.pcms));
        };
        Ok(Target { name: format!("hw:CARD={},DEV={pcm}", card.number), card: Some((card.number, pcm)) })
    }
}

/// Capture cards as a user could name them.
fn list<'a>(cards: impl Iterator<Item = &'a Card>) -> String {
    let describe = |card: &Card| match &card.usb {
        Some(usb) => {
            let serial = usb.serial.as_ref().map(|serial| format!(":{serial}")).unwrap_or_default();
            format!("usb-path:{} (usb-id:{}:{}{serial}, card:{})", usb.path, usb.vendor, usb.product, card.id)
        }
        None => format!("card:{}", card.id),
    };
    cards.map(describe).collect::<Vec<_>>().join(", ")
}

/// The card behind ALSA's `hw:` and `plughw:` names, by number or id.
fn card_of(name: &str, cards: &[Card]) -> Option<(u32, u32)> {
    let arguments = name.strip_prefix("hw:").or_else(|| name.strip_prefix("plughw:"))?;
    let mut parts = arguments.split(',').map(str::trim);
    let card = parts.next().map(|part| part.strip_prefix("CARD=").unwrap_or(part))?;
    let pcm = parts.next().map_or(Some(0), |part| part.strip_prefix("DEV=").unwrap_or(part).parse().ok())?;
    let card = cards.iter().find(|known| known.id == card || card.parse() == Ok(known.number))?;
    Some((card.number, pcm))
}

/// The capture cards that are there, by number. `sysfs` is `/sys` but in tests.
pub fn cards(sysfs: &Path) -> Vec<Card> {
    let Ok(entries) = std::fs::read_dir(sysfs.join("class/sound")) else { return Vec::new() };
    let number_of = |entry: &std::fs::DirEntry| entry.file_name().to_str()?.strip_prefix("card")?.parse().ok();
    let numbers = entries.filter_map(Result::ok).filter_map(|entry| number_of(&entry));
    let mut cards: Vec<_> = numbers.filter_map(|number| card(sysfs, number)).collect();
    cards.sort_by_key(|card| card.number);
    cards
}

fn card(sysfs: &Path, number: u32) -> Option<Card> {
    let dir = std::fs::canonicalize(sysfs.join(format!("class/sound/card{number}"))).ok()?;
    let prefix = format!("pcmC{number}D");
    let pcm_of =
        |entry: std::fs::DirEntry| entry.file_name().to_str()?.strip_prefix(&prefix)?.strip_suffix('c')?.parse().ok();
    let mut pcms: Vec<u32> = std::fs::read_dir(&dir).ok()?.filter_map(Result::ok).filter_map(pcm_of).collect();
    pcms.sort_unstable();
    if pcms.is_empty() {
        return None;
    }
    let id = line(&dir.join("id")).unwrap_or_else(|| number.to_string());
    // The nearest folder above with a vendor is the USB device; the one above that would be its hub.
    let usb = dir.ancestors().skip(1).take_while(|above| above.starts_with(sysfs_root(sysfs))).find_map(usb);
    Some(Card { number, id, pcms, usb })
}

fn sysfs_root(sysfs: &Path) -> std::path::PathBuf {
    std::fs::canonicalize(sysfs).unwrap_or_else(|_| sysfs.to_owned())
}

fn usb(dir: &Path) -> Option<Usb> {
    Some(Usb {
        vendor: line(&dir.join("idVendor"))?.to_ascii_lowercase(),
        product: line(&dir.join("idProduct"))?.to_ascii_lowercase(),
        path: dir.file_name()?.to_str()?.to_owned(),
        serial: line(&dir.join("serial")),
        name: line(&dir.join("product")),
    })
}

/// The first line of a small file, if it says anything.
fn line(file: &Path) -> Option<String> {
    let text = std::fs::read_to_string(file).ok()?;
    text.lines().next().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    /// A sysfs as the kernel lays it out.
    struct Tree(tempfile::TempDir);

    impl Tree {
        fn new() -> Tree {
            let dir = tempfile::tempdir().expect("a temporary directory");
            std::fs::create_dir_all(dir.path().join("class/sound")).expect("a writable directory");
            Tree(dir)
        }

        /// A card at `device` (below `devices/`), with capture devices `pcms`.
        fn card(&self, number: u32, id: &str, device: &str, pcms: &[u32]) -> &Tree {
            let dir = self.0.path().join("devices").join(device).join(format!("sound/card{number}"));
            std::fs::create_dir_all(dir.join(format!("pcmC{number}D0p"))).expect("a writable directory");
            for pcm in pcms {
                std::fs::create_dir_all(dir.join(format!("pcmC{number}D{pcm}c"))).expect("a writable directory");
            }
            std::fs::write(dir.join("id"), format!("{id}\n")).expect("a writable file");
            let target = PathBuf::from("../../devices").join(device).join(format!("sound/card{number}"));
            symlink(target, self.0.path().join(format!("class/sound/card{number}"))).expect("a link");
            self
        }

        /// The USB device at `device`.
        fn usb(&self, device: &str, vendor: &str, product: &str, serial: Option<&str>) -> &Tree {
            let dir = self.0.path().join("devices").join(device);
            std::fs::create_dir_all(&dir).expect("a writable directory");
            for (file, text) in [("idVendor", Some(vendor)), ("idProduct", Some(product)), ("serial", serial)] {
                if let Some(text) = text {
                    std::fs::write(dir.join(file), format!("{text}\n")).expect("a writable file");
                }
            }
            self
        }

        fn resolve(&self, selector: &str) -> Result<String, String> {
            selector.parse::<Selector>()?.resolve(&cards(self.0.path())).map(|target| target.name)
        }
    }

    const ROOT: &str = "platform/scb/fd500000.pcie/pci0000:00/0000:01:00.0/usb1";

    /// A Pi with its own sound card, two equal microphones behind a hub behind a hub, and another; numbers as at one boot.
    fn pi(numbers: [u32; 4]) -> Tree {
        let tree = Tree::new();
        let [own, left, right, other] = numbers;
        let (left_dir, right_dir) = (format!("{ROOT}/1-1/1-1.4/1-1.4.1"), format!("{ROOT}/1-1/1-1.4/1-1.4.2"));
        tree.usb(ROOT, "1d6b", "0002", Some("0000:01:00.0"))
            .usb(&format!("{ROOT}/1-1"), "2109", "3431", None)
            .usb(&format!("{ROOT}/1-1/1-1.4"), "05e3", "0608", None)
            .usb(&left_dir, "0D8C", "0014", None)
            .usb(&right_dir, "0d8c", "0014", None)
            .usb(&format!("{ROOT}/1-1/1-1.2"), "08bb", "2902", Some("A:123"))
            .card(own, "Headphones", "platform/soc/bcm2835_audio", &[])
            .card(left, if left < right { "Device" } else { "Device_1" }, &format!("{left_dir}/1-1.4.1:1.0"), &[0])
            .card(right, if left < right { "Device_1" } else { "Device" }, &format!("{right_dir}/1-1.4.2:1.0"), &[0])
            .card(other, "CODEC", &format!("{ROOT}/1-1/1-1.2/1-1.2:1.0"), &[0, 1]);
        tree
    }

    #[test]
    fn the_port_finds_the_card_whatever_its_number() {
        for numbers in [[0, 1, 2, 3], [0, 2, 1, 3], [3, 2, 1, 0], [1, 3, 0, 2], [0, 10, 2, 31]] {
            let (tree, [_, left, right, other]) = (pi(numbers), numbers);
            assert_eq!(tree.resolve("usb-path:1-1.4.1"), Ok(format!("hw:CARD={left},DEV=0")));
            assert_eq!(tree.resolve("usb-path:1-1.4.2"), Ok(format!("hw:CARD={right},DEV=0")));
            assert_eq!(tree.resolve("usb-path:1-1.2"), Ok(format!("hw:CARD={other},DEV=0")));
            assert_eq!(tree.resolve("usb-path:1-1.2,1"), Ok(format!("hw:CARD={other},DEV=1")));
            assert_eq!(tree.resolve("usb-id:08BB:2902"), Ok(format!("hw:CARD={other},DEV=0")));
            assert_eq!(tree.resolve("card:CODEC"), Ok(format!("hw:CARD={other},DEV=0")));
            assert_eq!(tree.resolve("vmic1"), Ok("vmic1".into()));
        }
    }

    #[test]
    fn two_equal_microphones_are_an_error_that_lists_both() {
        let error = pi([0, 1, 2, 3]).resolve("usb-id:0d8c:0014").expect_err("two fit");
        assert!(error.contains("usb-path:1-1.4.1") && error.contains("usb-path:1-1.4.2"), "{error}");
        assert!(!error.contains("1-1.2 "), "{error}");
    }

    #[test]
    fn what_is_not_there_is_an_error_that_lists_what_is() {
        for (selector, words) in [
            ("usb-path:1-1.4", "usb-path:1-1.4: not there"),
            ("usb-path:1-1.4.10", "usb-path:1-1.4.1 "),
            ("usb-id:08bb:2902:other", "usb-id:08bb:2902:A:123"),
            // It can only play.
            ("card:Headphones", "not there"),
            ("card:CODEC,7", "it has [0, 1]"),
        ] {
            let error = pi([0, 1, 2, 3]).resolve(selector).expect_err(selector);
            assert!(error.contains(words), "{error}");
        }
        assert!(Tree::new().resolve("card:CODEC").expect_err("no card").contains("has no capture card"));
        assert_eq!(cards(Path::new("/nonexistent")), []);
    }

    #[test]
    fn a_serial_tells_equal_cards_apart() {
        let tree = Tree::new();
        let (one, two) = (format!("{ROOT}/1-1"), format!("{ROOT}/1-2"));
        tree.usb(&one, "0d8c", "0014", Some("AA")).usb(&two, "0d8c", "0014", Some("BB"));
        tree.card(5, "Device", &format!("{one}/1-1:1.0"), &[0]).card(4, "Device_1", &format!("{two}/1-2:1.0"), &[0]);
        assert_eq!(tree.resolve("usb-id:0d8c:0014:BB"), Ok("hw:CARD=4,DEV=0".into()));
        assert_eq!(tree.resolve("usb-id:0d8c:0014:AA"), Ok("hw:CARD=5,DEV=0".into()));
    }

    #[test]
    fn the_same_card_is_recognised_under_alsas_names() {
        let cards = cards(pi([0, 1, 2, 3]).0.path());
        for name in ["hw:3", "hw:3,0", "hw:CARD=CODEC", "plughw:CARD=CODEC,DEV=0", "hw:CARD=3,DEV=0", "plughw:CODEC,0"]
        {
            assert_eq!(card_of(name, &cards), Some((3, 0)), "{name}");
        }
        for name in ["default", "hw:", "hw:9", "hw:CARD=CODEC,DEV=x", "sysdefault:CARD=CODEC"] {
            assert_eq!(card_of(name, &cards), None, "{name}");
        }
    }

    #[test]
    fn selectors_are_checked_and_written_as_they_are_read() {
        for text in
            ["usb-path:1-1.3", "usb-path:1-1,2", "usb-id:0d8c:0014:S N", "card:Device,1", "hw:CARD=1,DEV=0", "vmic"]
        {
            assert_eq!(text.parse::<Selector>().map(|selector| selector.to_string()), Ok(text.to_owned()));
        }
        for text in [
            "",
            "usb-path:",
            "usb-path:1",
            "usb-path:1-1.",
            "usb-id:0d8c",
            "usb-id:0d8c:14",
            "usb-id:zzzz:0014",
            "card:",
            "card:x,y",
        ] {
            let error = text.parse::<Selector>().expect_err(text);
            assert!(error.contains("expected"), "{error}");
        }
    }
}
