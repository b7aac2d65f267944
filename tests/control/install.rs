//! Installing bundles: archives good and hostile, pieces, downloads, signatures, the way back, and power cuts.

use std::fs::{self, File};
use std::io::{Cursor, Read, Seek, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use auscult::bundle::download::download;
use auscult::bundle::store::{BundleStore, InstallError, resolve};
use auscult::bundle::upload::{Upload, forget};
use auscult::bundle::{ARCHIVE_LIMIT, Bundle, TrustedKey};
use auscult::config::BundleConfig;
use flate2::{Compression, write::GzEncoder};
use proptest::prelude::*;

use crate::common::bundles::*;

/// A bundle of this name and version. Nothing is encoded here: any bytes do for an encoder.
fn parts(version: &str) -> Parts {
    let mut parts = Parts::valid(format!("the encoder of {version}").as_bytes());
    parts.manifest("fans", version, "");
    parts
}

/// Its `.tar.gz`, under a directory if there is a prefix.
fn tar_gz(parts: &Parts, prefix: &str) -> Vec<u8> {
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (name, bytes) in &parts.0 {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, format!("{prefix}{name}"), bytes.as_slice()).expect("a member");
    }
    archive.into_inner().and_then(|gz| gz.finish()).expect("an archive")
}

fn zip_of(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in members {
        archive.start_file(*name, zip::write::SimpleFileOptions::default()).expect("a member");
        archive.write_all(bytes).expect("its content");
    }
    archive.finish().expect("an archive").into_inner()
}

fn zip_parts(parts: &Parts, prefix: &str) -> Vec<u8> {
    let names: Vec<_> = parts.0.keys().map(|name| format!("{prefix}{name}")).collect();
    let members: Vec<_> =
        names.iter().zip(parts.0.values()).map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    zip_of(&members)
}

fn file_of(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().expect("a temporary file");
    file.write_all(bytes).expect("its content");
    file.rewind().expect("its start");
    file
}

/// Places and takes into use.
fn install(store: &BundleStore, archive: &[u8]) -> Result<PathBuf, InstallError> {
    let placed = store.place(&mut file_of(archive), &sha256(archive), None)?;
    store.switch(&placed)?;
    Ok(placed.dir)
}

/// Everything in a directory, sorted; what the store keeps for itself is left out.
fn listing(root: &Path) -> Vec<String> {
    let names = fs::read_dir(root).expect("a directory").map(|entry| entry.expect("an entry").file_name());
    let mut names: Vec<_> = names.map(|name| name.into_string().expect("UTF-8")).collect();
    names.retain(|name| name != ".history.json" && name != ".incoming");
    names.sort();
    names
}

fn new_store() -> (tempfile::TempDir, PathBuf, BundleStore) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let link = dir.path().join("bundles/current");
    let store = BundleStore::open(&link).expect("a new store");
    (dir, link, store)
}

fn version_in_use(link: &Path) -> String {
    Bundle::read(link).expect("a valid bundle in use").version
}

#[test]
fn archives_of_every_legal_form_are_installed_and_the_last_three_kept() {
    let (_dir, link, store) = new_store();
    let root = link.parent().expect("a root");
    let forms: [fn(&Parts) -> Vec<u8>; 5] = [
        |parts| tar_gz(parts, ""),
        |parts| tar_gz(parts, "./"),
        |parts| tar_gz(parts, "some-directory/"),
        |parts| zip_parts(parts, ""),
        |parts| zip_parts(parts, "some-directory/"),
    ];
    for (number, form) in forms.iter().enumerate() {
        let version = format!("1.{number}");
        install(&store, &form(&parts(&version))).unwrap_or_else(|error| panic!("form {number}: {error}"));
        assert_eq!(version_in_use(&link), version);
    }
    assert_eq!(listing(root), ["current", "fans-1.2", "fans-1.3", "fans-1.4"]);
    assert_eq!(fs::read_link(&link).expect("a link"), Path::new("fans-1.4"));

    // Back, and back again; then there is nothing earlier.
    for version in ["1.3", "1.2"] {
        let previous = store.previous().expect("an earlier bundle");
        store.switch_back(&previous).expect("the way back");
        assert_eq!(version_in_use(&link), version);
    }
    assert!(store.previous().expect_err("nothing earlier").to_string().contains("found none"));
    // What was rolled back from makes room for the next install.
    install(&store, &tar_gz(&parts("1.5"), "")).expect("an install after a rollback");
    assert_eq!(listing(root), ["current", "fans-1.2", "fans-1.5"]);
    assert_eq!(store.previous().expect("an earlier bundle").dir, root.join("fans-1.2"));
}

#[test]
fn the_same_bundle_again_is_the_same_and_another_under_its_name_is_refused() {
    let (_dir, link, store) = new_store();
    let archive = tar_gz(&parts("1.0"), "");
    install(&store, &archive).expect("an install");
    install(&store, &archive).expect("the same again");
    install(&store, &zip_parts(&parts("1.0"), "")).expect("the same, packed otherwise");

    let mut other = Parts::valid(b"another encoder");
    other.manifest("fans", "1.0", "");
    let error = install(&store, &tar_gz(&other, "")).expect_err("another under the same name").to_string();
    assert!(error.contains("fans-1.0 is there already") && error.contains("is in use"), "{error}");

    // A directory that someone put there is never touched.
    let root = link.parent().expect("a root");
    parts("2.0").write(&root.join("fans-3.0"));
    let error = install(&store, &tar_gz(&parts("3.0"), "")).expect_err("someone's directory").to_string();
    assert!(error.contains("was not installed here"), "{error}");
    assert_eq!(listing(root), ["current", "fans-1.0", "fans-3.0"]);
}

#[test]
fn what_is_discarded_leaves_nothing() {
    let (_dir, link, store) = new_store();
    install(&store, &tar_gz(&parts("1.0"), "")).expect("an install");
    let archive = tar_gz(&parts("2.0"), "");
    let placed = store.place(&mut file_of(&archive), &sha256(&archive), None).expect("a placed bundle");
    assert!(placed.dir.is_dir());
    store.discard(placed).expect("a discarded bundle");
    assert_eq!(listing(link.parent().expect("a root")), ["current", "fans-1.0"]);
    assert_eq!(version_in_use(&link), "1.0");
}

#[test]
fn a_bundle_linked_by_hand_is_gone_back_to_and_never_removed() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (link, elsewhere) = (dir.path().join("bundles/current"), dir.path().join("mine"));
    parts("0.1").write(&elsewhere);
    fs::create_dir(dir.path().join("bundles")).expect("a root");
    std::os::unix::fs::symlink(&elsewhere, &link).expect("a link");
    let store = BundleStore::open(&link).expect("a store");
    install(&store, &tar_gz(&parts("1.0"), "")).expect("an install");
    let previous = store.previous().expect("the one linked by hand");
    store.switch_back(&previous).expect("the way back");
    assert_eq!(version_in_use(&link), "0.1");
    for version in ["1.1", "1.2", "1.3", "1.4"] {
        install(&store, &tar_gz(&parts(version), "")).expect("an install");
    }
    assert!(elsewhere.join(ENCODER).is_file());
}

#[test]
fn a_plain_directory_is_no_store() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let error =
        BundleStore::open(&parts("1.0").write(&dir.path().join("fans"))).expect_err("a plain directory").to_string();
    assert!(error.contains("expected a link to the bundle in use, found a plain directory"), "{error}");
}

/// A tar member of any kind and name, as no tool would write it.
fn member(name: &str, kind: tar::EntryType, link: &str, size: u64, content: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    let bytes = header.as_mut_bytes();
    bytes[..name.len()].copy_from_slice(name.as_bytes());
    bytes[157..157 + link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(0o644);
    header.set_cksum();
    let padding = vec![0; content.len().next_multiple_of(512) - content.len()];
    [header.as_bytes().as_slice(), content, &padding].concat()
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("bytes");
    encoder.finish().expect("an archive")
}

/// A gzip stream of this many zeros after `head`, small as such a stream is.
fn gz_zeros(head: &[u8], zeros: u64) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(head).expect("bytes");
    std::io::copy(&mut std::io::repeat(0).take(zeros), &mut encoder).expect("zeros");
    encoder.finish().expect("an archive")
}

fn hostile_archives() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    use tar::EntryType;
    let regular = |name: &str| gz(&member(name, EntryType::Regular, "", 3, b"abc"));
    let kind = |kind, link: &str| gz(&member(ENCODER, kind, link, 0, b""));
    let good = parts("6.6");
    let whole = tar_gz(&good, "");
    let mut lying_zip = zip_of(&[(NAMES, &vec![0; 8 << 20])]);
    // The sizes before and after packing, in both headers: 8 MiB of zeros that claim to be 100 bytes.
    let claimed = (8u32 << 20).to_le_bytes();
    for at in 0..lying_zip.len() - 4 {
        if lying_zip[at..at + 4] == claimed {
            lying_zip[at..at + 4].copy_from_slice(&100u32.to_le_bytes());
        }
    }
    let mut link_zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    link_zip.add_symlink(ENCODER, "/etc/passwd", zip::write::SimpleFileOptions::default()).expect("a link");
    let link_zip = link_zip.finish().expect("an archive").into_inner();
    let mut comment_zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    comment_zip.start_file(NAMES, zip::write::SimpleFileOptions::default()).expect("a member");
    comment_zip.set_comment("x".repeat(60_000)).expect("a comment");
    let comment_zip = comment_zip.finish().expect("an archive").into_inner();
    let many: Vec<_> = (0..100).map(|number| format!("{number}/")).collect();
    let mut many_zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for name in &many {
        many_zip.add_directory(name.as_str(), zip::write::SimpleFileOptions::default()).expect("a directory");
    }
    let many_zip = many_zip.finish().expect("an archive").into_inner();
    let directories: Vec<u8> = many.iter().flat_map(|name| member(name, EntryType::Directory, "", 0, b"")).collect();
    let twice =
        [member(NAMES, EntryType::Regular, "", 1, b"}"), member(NAMES, EntryType::Regular, "", 1, b"}")].concat();
    let two = [
        member("a/id_to_int.pkl", EntryType::Regular, "", 1, b"}"),
        member("b/ids_train.npy", EntryType::Regular, "", 1, b"}"),
    ]
    .concat();
    let no_manifest = Parts::valid(b"x");
    let mut wrong_hash = good.clone();
    wrong_hash.set(NAMES, b"}.".to_vec());
    vec![
        ("nothing", "found 0 other bytes", Vec::new()),
        ("a picture", "expected a .tar.gz or .zip archive", b"\x89PNG\r\n\x1a\n".to_vec()),
        ("up and out", "found \"../encoder.tflite\"", regular("../encoder.tflite")),
        ("in and out", "expected a path inside", regular("a/../../encoder.tflite")),
        ("from the root", "found \"/encoder.tflite\"", regular("/encoder.tflite")),
        ("another name", "found \"authorized_keys\"", regular("authorized_keys")),
        ("a hidden name", "found \".history.json\"", regular(".history.json")),
        ("deep down", "expected a file of a bundle", regular("a/b/encoder.tflite")),
        ("Windows' way", "expected a path inside", regular("..\\encoder.tflite")),
        ("a symlink", "another kind", kind(EntryType::Symlink, "/etc/passwd")),
        ("a hard link", "another kind", kind(EntryType::Link, "/etc/passwd")),
        ("a device", "another kind", kind(EntryType::Char, "")),
        ("a pipe", "another kind", kind(EntryType::Fifo, "")),
        ("a sparse file", "another kind", kind(EntryType::GNUSparse, "")),
        ("a long name", "another kind", kind(EntryType::GNULongName, "")),
        ("a directory outside", "expected a path inside", gz(&member("../x", EntryType::Directory, "", 0, b""))),
        ("a file twice", "found id_to_int.pkl twice", gz(&twice)),
        ("two directories", "expected all files in one directory", gz(&two)),
        ("many directories", "expected at most 64 members", gz(&directories)),
        ("a file of 1 TB, as it says", "found 1099511627776", gz(&member(BANK, EntryType::Regular, "", 1 << 40, b""))),
        (
            "a file of 40 MB of zeros",
            "expected at most 33554432 bytes, found 41943040",
            gz_zeros(&member(BANK, EntryType::Regular, "", 40 << 20, b""), 40 << 20),
        ),
        (
            "a pax header of 1 GB",
            "pax headers of at most 65536 bytes",
            gz_zeros(&member("x", EntryType::XHeader, "", 1 << 30, b""), 200 << 20),
        ),
        ("zeros for ever", "expected", gz_zeros(b"", 1 << 30)),
        ("half an archive", "expected", whole[..whole.len() / 2].to_vec()),
        ("damaged", "expected", {
            let mut damaged = whole.clone();
            let middle = damaged.len() / 2;
            damaged[middle..middle + 64].fill(0x55);
            damaged
        }),
        ("no manifest", "expected bundle.toml with name and version", tar_gz(&no_manifest, "")),
        ("another file than the hash's", "id_to_int.pkl: expected sha256", tar_gz(&wrong_hash, "")),
        ("zip: up and out", "expected a path inside", zip_of(&[("../encoder.tflite", b"abc")])),
        ("zip: from the root", "expected", zip_of(&[("/etc/encoder.tflite", b"abc")])),
        ("zip: another name", "expected only the files of a bundle", zip_of(&[("run.sh", b"abc")])),
        ("zip: a link", "another kind", link_zip),
        (
            "zip: 9 MB where 256 kB may be",
            "expected at most 262144 bytes, found 9437184",
            zip_of(&[(NAMES, &vec![0; 9 << 20])]),
        ),
        ("zip: lies about its size", "expected", lying_zip),
        ("zip: a comment", "expected a .zip archive without comment", comment_zip),
        ("zip: many members", "expected at most 64 members, found 100", many_zip),
        ("zip: cut", "expected a .zip archive", zip_parts(&good, "")[..500].to_vec()),
        ("zip: a head only", "expected a .zip archive", b"PK\x03\x04".to_vec()),
    ]
}

#[test]
fn hostile_archives_are_refused_and_leave_nothing() {
    let (dir, link, store) = new_store();
    install(&store, &tar_gz(&parts("1.0"), "")).expect("an install");
    for (what, words, archive) in hostile_archives() {
        let error = install(&store, &archive).expect_err(what).to_string();
        assert!(error.contains(words) && error.lines().count() == 1 && error.len() < 600, "{what}: {error}");
        assert_eq!(listing(link.parent().expect("a root")), ["current", "fans-1.0"], "{what}");
        assert_eq!(listing(dir.path()), ["bundles"], "{what}");
    }
    let archive = tar_gz(&parts("2.0"), "");
    let error = store.place(&mut file_of(&archive), &"0".repeat(64), None).expect_err("another sha256").to_string();
    assert!(error.contains("expected an archive of sha256 000"), "{error}");
    assert_eq!(version_in_use(&link), "1.0");
}

#[test]
fn paths_to_reload_stay_below_the_root() {
    let (dir, link, store) = new_store();
    install(&store, &tar_gz(&parts("1.0"), "")).expect("an install");
    let root = link.parent().expect("a root");
    parts("0.1").write(&dir.path().join("outside"));
    parts("0.2").write(&root.join("mine"));
    fs::write(root.join("a-file"), "x").expect("a file");
    fs::create_dir(root.join(".hidden")).expect("a directory");
    std::os::unix::fs::symlink("../outside", root.join("way-out")).expect("a link");
    std::os::unix::fs::symlink("mine", root.join("way-in")).expect("a link");
    let real = root.canonicalize().expect("a root");
    for (path, expected) in [("mine", "mine"), ("way-in", "mine"), ("current", "fans-1.0"), ("fans-1.0/", "fans-1.0")] {
        assert_eq!(resolve(&link, path).expect(path), real.join(expected));
    }
    let outside = dir.path().join("outside").display().to_string();
    for path in
        ["", ".", "..", "../outside", "mine/../..", "way-out", "/", &outside, "a-file", ".hidden", "nothing", "a\0b"]
    {
        let error = resolve(&link, path).expect_err(path).to_string();
        assert!(error.starts_with("path: expected a directory below"), "{path:?}: {error}");
    }
}

#[test]
fn pieces_arrive_in_any_order_across_restarts() {
    let (_dir, link, store) = new_store();
    let incoming = store.upload_dir().expect("a directory");
    let archive = tar_gz(&parts("1.0"), "");
    let (hash, size) = (sha256(&archive), archive.len() as u64);
    let pieces: Vec<_> = archive.chunks(100).enumerate().map(|(number, piece)| (100 * number as u64, piece)).collect();
    // From the end, every piece in its own process's life; some come twice.
    for (offset, piece) in pieces.iter().rev() {
        let mut one = Upload::open(&incoming, &hash.to_uppercase(), size).expect("an archive to gather");
        let progress = one.put(*offset, piece).expect("a piece");
        assert_eq!(progress.missing, (*offset > 0).then_some((0, *offset)));
        assert_eq!(one.put(*offset, piece).expect("the same piece"), progress);
        if *offset > 0 {
            assert!(one.finish().expect_err("pieces are missing").to_string().contains("missing"));
        }
    }
    let mut whole = Upload::open(&incoming, &hash, size).expect("the archive").finish().expect("a whole archive");
    let placed = store.place(&mut whole, &hash, None).expect("the bundle in it");
    store.switch(&placed).expect("an install");
    forget(&incoming, &hash).expect("room");
    assert_eq!(listing(&incoming), Vec::<String>::new());
    assert_eq!(version_in_use(&link), "1.0");
}

#[test]
fn pieces_that_do_not_fit_are_refused() {
    let (_dir, _link, store) = new_store();
    let incoming = store.upload_dir().expect("a directory");
    let hash = sha256(b"something");
    for (sha256, size, words) in [
        ("12ab", 100, "sha256: expected 64 hex digits"),
        ("../../../../etc/passwd", 100, "sha256: expected 64 hex digits"),
        (&hash, 0, "size: expected 1 to 67108864 bytes, found 0"),
        (&hash, ARCHIVE_LIMIT + 1, "found 67108865"),
    ] {
        let error = Upload::open(&incoming, sha256, size).expect_err(words).to_string();
        assert!(error.contains(words), "{error}");
    }
    let mut one = Upload::open(&incoming, &hash, 9000).expect("an archive to gather");
    for (offset, length) in [(9000, 1), (8999, 2), (u64::MAX, 1), (0, 0), (u64::MAX - 1, 100)] {
        let error = one.put(offset, &vec![0; length]).expect_err("out of the archive").to_string();
        assert!(error.starts_with("offset: expected a piece within 9000 bytes"), "{error}");
    }
    one.put(0, &[7; 9000]).expect("all of it");
    let error = one.finish().expect_err("another sha256").to_string();
    assert!(error.contains("send it again"), "{error}");
    assert_eq!(listing(&incoming), Vec::<String>::new());
    // Room for four side by side.
    for number in 0..7u8 {
        Upload::open(&incoming, &sha256(&[number]), 10).and_then(|mut one| one.put(0, &[number])).expect("a piece");
    }
    assert_eq!(listing(&incoming).iter().filter(|name| name.ends_with(".part")).count(), 4);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_of_pieces_is_what_was_sent(
        pieces in proptest::collection::vec((0u64..2000, 1usize..300, any::<bool>()), 1..60)
    ) {
        let content: Vec<u8> = (0..2000u32).map(|n| (n * n % 251) as u8).collect();
        let dir = tempfile::tempdir().unwrap();
        let hash = sha256(&content);
        let mut one = Upload::open(dir.path(), &hash, 2000).unwrap();
        let mut there = vec![false; 2000];
        for (offset, length, restart) in pieces {
            if restart {
                one = Upload::open(dir.path(), &hash, 2000).unwrap();
            }
            let end = (offset as usize + length).min(2000);
            let progress = one.put(offset, &content[offset as usize..end]).unwrap();
            there[offset as usize..end].fill(true);
            prop_assert_eq!(progress.received, there.iter().filter(|there| **there).count() as u64);
            let first = there.iter().position(|there| !there);
            prop_assert_eq!(progress.missing.map(|missing| missing.0), first.map(|first| first as u64));
            if let Some((start, end)) = progress.missing {
                prop_assert!(there[start as usize..end as usize].iter().all(|there| !there));
                prop_assert!(end == 2000 || there[end as usize]);
            }
        }
        one.put(0, &content).unwrap();
        let mut found = Vec::new();
        let mut file = one.finish().unwrap();
        file.rewind().unwrap();
        file.read_to_end(&mut found).unwrap();
        prop_assert_eq!(found, content);
    }
}

/// A web server for as long as it is kept: answers each path with what it is given, counts what is asked.
struct Server {
    address: String,
    asked: Arc<AtomicUsize>,
}

impl Server {
    fn start(answer: impl Fn(&str, &mut dyn Write) -> std::io::Result<()> + Send + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        // Ends with the process; the tests of one binary share it.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                count.fetch_add(1, Ordering::SeqCst);
                let mut request = Vec::new();
                let mut byte = [0];
                while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
                    request.push(byte[0]);
                }
                let request = String::from_utf8_lossy(&request).into_owned();
                let path = request.split(' ').nth(1).unwrap_or_default();
                // A client that has heard enough hangs up; that is no fault here.
                let _ = answer(path, &mut stream);
            }
        });
        Server { address, asked }
    }
}

fn respond(out: &mut dyn Write, status: &str, headers: &str, body: &[u8]) -> std::io::Result<()> {
    write!(out, "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n{headers}\r\n", body.len())?;
    out.write_all(body)
}

fn redirect(out: &mut dyn Write, to: &str) -> std::io::Result<()> {
    respond(out, "302 Found", &format!("Location: {to}\r\n"), b"")
}

#[test]
fn downloads_come_from_allowed_hosts_only() {
    let (_dir, link, store) = new_store();
    let incoming = store.upload_dir().expect("a directory");
    let archive = tar_gz(&parts("1.0"), "");
    let forbidden = Server::start(|_, out| respond(out, "200 OK", "", b"secret"));
    let (body, elsewhere) = (archive.clone(), forbidden.address.clone());
    let server = Server::start(move |path, out| match path {
        "/a/fans.tar.gz" => respond(out, "200 OK", "", &body),
        "/moved" => redirect(out, "/a/around"),
        "/a/around" => redirect(out, "fans.tar.gz"),
        "/loop" => redirect(out, "/loop"),
        "/out" => redirect(out, &format!("http://{elsewhere}/")),
        "/out-quietly" => redirect(out, &format!("//{elsewhere}/")),
        "/file" => redirect(out, "file:///etc/passwd"),
        "/nowhere" => respond(out, "302 Found", "", b""),
        "/large" => {
            write!(out, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 65 << 20)?;
            out.write_all(&[0; 1024])
        }
        "/endless" => {
            write!(out, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
            std::io::copy(&mut std::io::repeat(0).take(100 << 20), out).map(drop)
        }
        "/cut" => {
            write!(out, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")?;
            out.write_all(&[0; 10])
        }
        _ => respond(out, "404 Not Found", "", b""),
    });
    let config =
        BundleConfig { allow_from: vec![server.address.clone(), "localhost".into()], ..BundleConfig::default() };
    let get = |url: &str| download(url, &incoming, &config, Duration::from_secs(60));
    let base = format!("http://{}", server.address);

    for path in ["/a/fans.tar.gz", "/moved"] {
        let mut file = get(&format!("{base}{path}")).expect(path);
        let placed = store.place(file.as_file_mut(), &sha256(&archive), None).expect("the bundle in it");
        store.switch(&placed).expect("an install");
        assert_eq!(version_in_use(&link), "1.0");
    }
    for (url, words) in [
        (format!("{base}/loop"), "at most 5 redirects"),
        (format!("{base}/out"), "expected a host of bundle.allow_from"),
        (format!("{base}/out-quietly"), "expected a host of bundle.allow_from"),
        (format!("{base}/file"), "expected http:// or https://"),
        (format!("{base}/nowhere"), "expected a redirect to somewhere"),
        (format!("{base}/none"), "found 404"),
        (format!("{base}/large"), "at most 67108864 bytes, found 68157440"),
        (format!("{base}/endless"), "at most 67108864 bytes, found more"),
        (format!("{base}/cut"), "downloading the archive"),
        (format!("http://{}/", forbidden.address), "expected a host of bundle.allow_from"),
        // The name is allowed for its own port only.
        (
            format!("http://localhost:{}/a/fans.tar.gz", server.address.rsplit(':').next().expect("a port")),
            "expected a host",
        ),
        (format!("http://user:word@{}/a/fans.tar.gz", server.address), "expected no login"),
        ("file:///etc/passwd".into(), "expected http:// or https://"),
        ("ftp://localhost/x".into(), "expected http:// or https://"),
        ("fans.tar.gz".into(), "expected http:// or https://"),
        ("http://".into(), "expected http:// or https://"),
        (format!("http://{}/{}", "a".repeat(100_000), "b"), "expected"),
    ] {
        let error = get(&url).expect_err(&url).to_string();
        assert!(error.contains(words) && error.len() < 700, "{url:.100}: {error:.700}");
    }
    assert_eq!(forbidden.asked.load(Ordering::SeqCst), 0, "a host that is not allowed was asked");
    assert_eq!(listing(&incoming), Vec::<String>::new());

    let nobody = BundleConfig::default();
    let error =
        download(&base, &incoming, &nobody, Duration::from_secs(60)).expect_err("no host is allowed").to_string();
    assert!(error.contains("bundle.allow_from (none)"), "{error}");
}

#[test]
fn a_download_that_takes_too_long_ends() {
    let (_dir, _link, store) = new_store();
    let server = Server::start(|_, out| {
        write!(out, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")?;
        // A byte now and then: no single wait is long.
        for _ in 0..1000 {
            out.write_all(b"x")?;
            out.flush()?;
            crate::common::wait::pace(Duration::from_millis(50));
        }
        Ok(())
    });
    let config = BundleConfig { allow_from: vec![server.address.clone()], ..BundleConfig::default() };
    let incoming = store.upload_dir().expect("a directory");
    let url = format!("http://{}/", server.address);
    let error = download(&url, &incoming, &config, Duration::from_secs(1)).expect_err("too slow").to_string();
    assert!(error.to_lowercase().contains("time"), "{error}");
    assert_eq!(listing(&incoming), Vec::<String>::new());
}

/// Runs a tool to its end.
fn tool(name: &str, arguments: &[&str]) -> std::process::Output {
    let output = Command::new(name).args(arguments).stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{name}: {error}; tests/setup.sh installs it"));
    assert!(output.status.success(), "{name} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

fn auscult(arguments: &[&str]) -> std::process::Output {
    tool(env!("CARGO_BIN_EXE_auscult"), arguments)
}

#[test]
fn only_signed_bundles_are_taken_where_a_key_is_set() {
    let Some(encoder) = encoder() else { return };
    let (dir, link, store) = new_store();
    let path = |name: &str| dir.path().join(name).display().to_string();
    for who in ["ours", "theirs"] {
        tool("minisign", &["-G", "-W", "-p", &path(&format!("{who}.pub")), "-s", &path(&format!("{who}.key"))]);
    }
    let key: TrustedKey = fs::read_to_string(path("ours.pub")).expect("a key").parse().expect("a public key");
    let source = path("source");
    Parts::valid(&encoder).write(Path::new(&source));
    let pack = |name: &str| {
        auscult(&[
            "bundle",
            "pack",
            "--engine",
            "tract",
            "--name",
            "fans",
            "--bundle-version",
            "1.0",
            "--out",
            &path(name),
            &source,
        ]);
        fs::read(path(name)).expect("an archive")
    };
    let place = |archive: &[u8]| store.place(&mut file_of(archive), &sha256(archive), Some(&key));
    let refused = |archive: &[u8], words: &str| {
        let error = place(archive).expect_err(words).to_string();
        assert!(error.contains(words), "{error}");
        assert_eq!(listing(link.parent().expect("a root")), Vec::<String>::new());
    };
    let sign = |who: &str| {
        tool("minisign", &["-S", "-W", "-s", &path(&format!("{who}.key")), "-m", &format!("{source}/bundle.toml")]);
    };

    let unsigned = pack("unsigned.tar.gz");
    assert_eq!(unsigned, pack("again.tar.gz"), "the same files must give the same archive");
    refused(&unsigned, "bundle.toml.minisig: expected a signature, as bundle.public_key is set, found none");
    sign("theirs");
    refused(&pack("theirs.tar.gz"), "expected a signature of bundle.public_key over bundle.toml");
    sign("ours");
    let signed = pack("signed.tar.gz");

    // What is signed is the manifest; what it lists cannot be exchanged, and it cannot be changed.
    let members = |archive: &[u8]| {
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(archive));
        let read = |entry: std::io::Result<tar::Entry<_>>| {
            let mut entry = entry.expect("a member");
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).expect("its content");
            (entry.path().expect("a path").display().to_string(), bytes)
        };
        Parts(archive.entries().expect("members").map(read).collect())
    };
    let mut exchanged = members(&signed);
    exchanged.set(THRESHOLDS, pickle(&std::collections::BTreeMap::from([(0, 9.0), (3, 9.0)])));
    refused(&tar_gz(&exchanged, ""), "thresholds_by_machine.pkl: expected sha256");
    let mut changed = members(&signed);
    changed.0.get_mut(MANIFEST).expect("a manifest").push(b'\n');
    refused(&tar_gz(&changed, ""), "expected a signature of bundle.public_key");
    let mut garbled = members(&signed);
    garbled.set("bundle.toml.minisig", b"untrusted comment: x\nRUQ".to_vec());
    refused(&tar_gz(&garbled, ""), "expected a minisign signature");
    refused(&tar_gz(&Parts::valid(&encoder), ""), "expected a signed manifest");
    // What is not in the signed manifest would be read beside it.
    let mut beside = members(&signed);
    beside.set("baselines.json", b"{}".to_vec());
    refused(&tar_gz(&beside, ""), "baselines.json: expected a file that the signed bundle.toml names");

    let placed = place(&signed).expect("a signed bundle");
    store.switch(&placed).expect("an install");
    let config = BundleConfig {
        public_key: Some(fs::read_to_string(path("ours.pub")).expect("a key")),
        ..BundleConfig::default()
    };
    let (bundle, _) = Bundle::open_for_use(&link, &config, &Default::default()).expect("a signed bundle in use");
    assert_eq!((bundle.name.as_str(), bundle.version.as_str()), ("fans", "1.0"));
    for name in ["baselines.json", "golden_windows.npy", "notes.txt"] {
        fs::write(link.join(name), "{}").expect("a file to add");
        let error = Bundle::open_for_use(&link, &config, &Default::default()).err().expect(name).to_string();
        assert!(error.contains(&format!("{name}: expected a file that the signed")), "{error}");
        fs::remove_file(link.join(name)).expect("a file to remove");
    }
    fs::remove_file(link.join("bundle.toml.minisig")).expect("a signature to remove");
    assert!(Bundle::open_for_use(&link, &config, &Default::default()).is_err(), "an unsigned bundle was opened");
    assert!("not a key".parse::<TrustedKey>().expect_err("no key").contains("expected a minisign public key"));

    // A manifest that changes loses its signature.
    Parts::valid(&encoder).write(Path::new(&source));
    auscult(&[
        "bundle",
        "pack",
        "--engine",
        "tract",
        "--bundle-version",
        "1.1",
        "--out",
        &path("next.tar.gz"),
        &source,
    ]);
    assert!(!Path::new(&source).join("bundle.toml.minisig").exists());
}

/// Set to a directory, this test binary installs two bundles there in turn, until it is killed.
const INSTALL_FOR_EVER: &str = "AUSCULT_TEST_INSTALL_FOR_EVER";

/// Everything that an install does: gathers pieces, places, switches; then goes back if asked to.
fn install_in_pieces(dir: &Path, archive: &[u8], and_back: bool) {
    let store = BundleStore::open(&dir.join("bundles/current")).expect("a store");
    let incoming = store.upload_dir().expect("a directory");
    let hash = sha256(archive);
    for (number, piece) in archive.chunks(8000).enumerate() {
        let mut one = Upload::open(&incoming, &hash, archive.len() as u64).expect("an archive to gather");
        one.put(8000 * number as u64, piece).expect("a piece");
    }
    let one = Upload::open(&incoming, &hash, archive.len() as u64).expect("an archive to gather");
    let placed = store.place(&mut one.finish().expect("all of it"), &hash, None).expect("a bundle");
    store.switch(&placed).expect("an install");
    forget(&incoming, &hash).expect("room");
    if and_back {
        store.switch_back(&store.previous().expect("an earlier bundle")).expect("the way back");
    }
}

/// No test of its own: the process that [`a_kill_at_any_moment_leaves_a_valid_bundle`] kills.
#[test]
fn installs_for_ever_when_asked_to() {
    let Some(dir) = std::env::var_os(INSTALL_FOR_EVER).map(PathBuf::from) else { return };
    let archives = ["a.tar.gz", "b.tar.gz"].map(|name| fs::read(dir.join(name)).expect("an archive"));
    println!("ready");
    loop {
        install_in_pieces(&dir, &archives[0], false);
        install_in_pieces(&dir, &archives[1], true);
    }
}

#[test]
fn a_kill_at_any_moment_leaves_a_valid_bundle() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let link = dir.path().join("bundles/current");
    let archives = ["1.0", "2.0"].map(|version| tar_gz(&parts(version), ""));
    for (name, archive) in ["a.tar.gz", "b.tar.gz"].iter().zip(&archives) {
        fs::write(dir.path().join(name), archive).expect("an archive");
    }
    install(&BundleStore::open(&link).expect("a store"), &tar_gz(&parts("0.9"), "")).expect("the first install");
    // How long one takes here, so that the kills fall anywhere in the first few.
    let start = std::time::Instant::now();
    install_in_pieces(dir.path(), &archives[0], false);
    let span = start.elapsed() * 4;
    let mut seen = std::collections::BTreeMap::<String, usize>::new();
    let mut round = 0;
    // The second bundle is in use for a short while only: fifty kills, and as many more as it takes to meet it.
    while round < 50 || (seen.len() < 2 && round < 2000) {
        round += 1;
        let mut child = Command::new(std::env::current_exe().expect("this test's binary"))
            .args(["--exact", "install::installs_for_ever_when_asked_to", "--nocapture"])
            .env(INSTALL_FOR_EVER, dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a process to kill");
        let mut out = std::io::BufReader::new(child.stdout.take().expect("a pipe"));
        let mut line = String::new();
        while !line.contains("ready") {
            line.clear();
            assert!(
                std::io::BufRead::read_line(&mut out, &mut line).expect("a line") > 0,
                "the process ended by itself"
            );
        }
        crate::common::wait::random_moment(Duration::ZERO..span);
        child.kill().expect("kill -9");
        child.wait().expect("its end");

        // As it lies there, before anything is tidied up.
        *seen.entry(version_in_use(&link)).or_default() += 1;
        let store = BundleStore::open(&link).expect("a store after the kill");
        version_in_use(&link);
        let left = listing(link.parent().expect("a root"));
        assert!(!left.iter().any(|name| name.starts_with('.')), "round {round}: {left:?}");
        assert!(left.len() <= 4, "round {round}: {left:?}");
        for name in left.iter().filter(|name| *name != "current") {
            Bundle::read(&link.with_file_name(name)).unwrap_or_else(|error| panic!("round {round}: {error}"));
        }
        let incoming = store.upload_dir().expect("a directory");
        assert!(
            listing(&incoming).iter().all(|name| !name.starts_with('.')),
            "round {round}: {:?}",
            listing(&incoming)
        );
    }
    // The retried command installs.
    let store = BundleStore::open(&link).expect("a store");
    install(&store, &tar_gz(&parts("3.0"), "")).expect("the install that was retried");
    assert_eq!(version_in_use(&link), "3.0");
    println!("versions in use after the kills: {seen:?}, an install takes {:?}", span / 4);
    assert!(seen.len() > 1, "expected kills before and after switches, found only {seen:?}");
}
