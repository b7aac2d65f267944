//! Which capture devices there are, for a user to choose from.

use std::path::Path;

use cpal::HostId;
use cpal::traits::{DeviceTrait, HostTrait};

use super::identity::{self, Card, Selector, Target};
use super::offer::Offer;
use super::{NO_SUCH, offer_of};

/// ALSA's own plugins: they convert or lead elsewhere, and are no microphones.
const PLUGINS: [&str; 16] = [
    "null",
    "default",
    "sysdefault",
    "lavrate",
    "samplerate",
    "speexrate",
    "speex",
    "jack",
    "oss",
    "pulse",
    "pipewire",
    "upmix",
    "vdownmix",
    "a52",
    "usbstream",
    "hw",
];

/// One capture device.
#[derive(Debug)]
pub struct Listed {
    /// What to configure.
    pub selector: Selector,
    /// Other ways to say it.
    pub others: Vec<Selector>,
    /// What it calls itself.
    pub name: String,
    /// ALSA's name of it, until the next boot.
    pub alsa: String,
    /// What it offers, or why it does not answer.
    pub offer: Result<Offer, String>,
}

/// A capture device as the system names it; nothing was asked of the device itself.
#[derive(Debug, Clone)]
pub struct Found {
    /// What to configure.
    pub selector: Selector,
    /// Other ways to say it.
    pub others: Vec<Selector>,
    /// What it calls itself.
    pub name: String,
    /// What is opened, or why it cannot be told.
    pub target: Result<Target, String>,
}

/// All capture devices: the cards, then what an `asound.conf` defines; with `all` ALSA's plugins too. Each is opened for
/// a moment.
pub fn list(sysfs: &Path, all: bool) -> Vec<Listed> {
    // Holds ALSA's configuration as long as it is used here.
    let _host = cpal::host_from_id(HostId::Alsa);
    found(sysfs, all).into_iter().map(Listed::of).collect()
}

/// As [`list`], without opening any.
pub fn found(sysfs: &Path, all: bool) -> Vec<Found> {
    let host = cpal::host_from_id(HostId::Alsa);
    let cards = identity::cards(sysfs);
    let mut devices: Vec<_> =
        cards.iter().flat_map(|card| card.pcms.iter().map(|&pcm| of_card(card, pcm, &cards))).collect();
    let Ok(found) = host.as_ref().map_err(|_| ()).and_then(|host| host.devices().map_err(|_| ())) else {
        return devices;
    };
    for device in found.filter(DeviceTrait::supports_input) {
        let Ok(id) = device.id() else { continue };
        let alsa = id.id().to_owned();
        let plugin = alsa.split(':').next().unwrap_or_default();
        if alsa.contains("CARD=") || (!all && PLUGINS.contains(&plugin)) {
            continue;
        }
        let Ok(selector) = alsa.parse::<Selector>() else { continue };
        let name = device.description().map_or_else(|_| alsa.clone(), |description| description.name().to_owned());
        let target = selector.resolve(&cards);
        devices.push(Found { selector, others: Vec::new(), name, target });
    }
    devices
}

fn of_card(card: &Card, pcm: u32, cards: &[Card]) -> Found {
    // The first capture device of a card needs no number.
    let pcm_number = (card.pcms.first() != Some(&pcm)).then_some(pcm);
    let by_id = Selector::Card { name: card.id.clone(), pcm: pcm_number };
    let (selector, others) = match &card.usb {
        Some(usb) => {
            let (vendor, product, serial) = (usb.vendor.clone(), usb.product.clone(), usb.serial.clone());
            let by_kind = Selector::UsbId { vendor, product, serial, pcm: pcm_number };
            let by_path = Selector::UsbPath { path: usb.path.clone(), pcm: pcm_number };
            (by_path, [by_kind, by_id].into_iter().filter(|other| other.resolve(cards).is_ok()).collect())
        }
        None => (by_id, Vec::new()),
    };
    let name = card.usb.as_ref().and_then(|usb| usb.name.clone()).unwrap_or_else(|| card.id.clone());
    let target = selector.resolve(cards);
    Found { selector, others, name, target }
}

/// Whoever reads the list need not be sent to it.
fn listed(problem: String) -> String {
    match problem == NO_SUCH {
        true => "nothing is behind this name: there is no card for it, or no sound server".to_owned(),
        false => problem,
    }
}

impl Listed {
    fn of(Found { selector, others, name, target }: Found) -> Listed {
        let alsa = target.as_ref().map_or_else(|_| String::new(), |target| target.name.clone());
        Listed { selector, others, name, alsa, offer: target.and_then(|target| offer_of(&target).map_err(listed)) }
    }

    /// The line for the configuration.
    pub fn line(&self) -> String {
        let channel = match &self.offer {
            Ok(offer) if offer.channels.last() == Some(&1) || offer.converts => "\"mix\"",
            _ => "0",
        };
        format!("source = {{ device = {:?}, channel = {channel} }}", self.selector.to_string())
    }
}
