//! Pickles as Python 3.11 with numpy 2.4 writes them; the scalars of other byte orders by a class whose `__reduce__` says
//! what numpy's does.

use super::*;

fn hex(text: &str) -> Vec<u8> {
    let digit = |c: u8| char::from(c).to_digit(16).expect("a hex digit") as u8;
    text.as_bytes().chunks_exact(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

fn read(text: &str) -> Result<Vec<(Atom, Atom)>, String> {
    read_dict(&hex(text))
}

fn text(text: &str) -> Atom {
    Atom::Text(text.into())
}

/// `{0: 0.25, 1: 1, 2: -3}`, protocol 0.
const PLAIN: &str = "286470300a49300a46302e32350a7349310a49310a7349320a492d330a732e";
/// `{"fän": 0, "b": 1}`, protocol 0.
const NAMES: &str = "286470300a5666e46e0a70310a49300a7356620a70320a49310a732e";
/// `{np.int64(0): np.float32(0.25), np.int64(1): np.float32(0.5)}`, protocols 0, 2 and 5.
const MIXED_0: &str = "286470300a636e756d70792e5f636f72652e6d756c746961727261790a7363616c61720a70310a28636e756d70790a64747970650a7032\
     0a285669380a70330a4930300a4930310a7470340a5270350a2849330a563c0a70360a4e4e4e492d310a492d310a49300a7470370a6263\
     5f636f646563730a656e636f64650a70380a28565c75303030305c75303030305c75303030305c75303030305c75303030305c75303030\
     305c75303030305c75303030300a70390a566c6174696e310a7031300a747031310a527031320a747031330a527031340a67310a286732\
     0a285666340a7031350a4930300a4930310a747031360a527031370a2849330a67360a4e4e4e492d310a492d310a49300a747031380a62\
     67380a28565c75303030305c7530303030803e0a7031390a6731300a747032300a527032310a747032320a527032330a7367310a286735\
     0a67380a2856015c75303030305c75303030305c75303030305c75303030305c75303030305c75303030305c75303030300a7032340a67\
     31300a747032350a527032360a747032370a527032380a67310a286731370a67380a28565c75303030305c75303030305c75303030303f\
     0a7032390a6731300a747033300a527033310a747033320a527033330a732e";
const MIXED_2: &str = "80027d710028636e756d70792e5f636f72652e6d756c746961727261790a7363616c61720a7101636e756d70790a64747970650a710258\
     02000000693871038988877104527105284b0358010000003c71064e4e4e4affffffff4affffffff4b0074710762635f636f646563730a\
     656e636f64650a710858080000000000000000000000710958060000006c6174696e31710a86710b52710c86710d52710e680168025802\
     0000006634710f8988877110527111284b0368064e4e4e4affffffff4affffffff4b0074711262680858050000000000c2803e7113680a\
     867114527115867116527117680168056808580800000001000000000000007118680a86711952711a86711b52711c6801681168085804\
     0000000000003f711d680a86711e52711f867120527121752e";
const MIXED_5: &str = "800595c1000000000000007d94288c166e756d70792e5f636f72652e6d756c74696172726179948c067363616c61729493948c056e756d\
     7079948c0564747970659493948c02693894898887945294284b038c013c944e4e4e4affffffff4affffffff4b00749462430800000000\
     000000009486945294680368068c02663494898887945294284b03680a4e4e4e4affffffff4affffffff4b0074946243040000803e9486\
     945294680368094308010000000000000094869452946803681143040000003f9486945294752e";
/// `{np.str_("fan-1"): np.int32(3), np.str_("fän-22"): np.uint8(255)}`.
const STRINGS: &str = "80049514010000000000007d94288c166e756d70792e5f636f72652e6d756c74696172726179948c067363616c61729493948c056e756d\
     7079948c0564747970659493948c02553594898887945294284b038c013c944e4e4e4b144b044b08749462431466000000610000006e00\
     00002d000000310000009486945294680368068c02693494898887945294284b03680a4e4e4e4affffffff4affffffff4b007494624304\
     030000009486945294680368068c02553694898887945294284b03680a4e4e4e4b184b044b08749462431866000000e40000006e000000\
     2d00000032000000320000009486945294680368068c02753194898887945294284b038c017c944e4e4e4affffffff4affffffff4b0074\
     94624301ff9486945294752e";
/// `{np.int8(-1): np.float16(0.333), np.uint64(2): np.float64("inf"), np.int16(-300): np.float16(-6e-8)}`.
const SMALL: &str = "8004953e010000000000007d94288c166e756d70792e5f636f72652e6d756c74696172726179948c067363616c61729493948c056e756d\
     7079948c0564747970659493948c02693194898887945294284b038c017c944e4e4e4affffffff4affffffff4b007494624301ff948694\
     5294680368068c02663294898887945294284b038c013c944e4e4e4affffffff4affffffff4b0074946243025435948694529468036806\
     8c02753894898887945294284b0368124e4e4e4affffffff4affffffff4b00749462430802000000000000009486945294680368068c02\
     663894898887945294284b0368124e4e4e4affffffff4affffffff4b007494624308000000000000f07f9486945294680368068c026932\
     94898887945294284b0368124e4e4e4affffffff4affffffff4b007494624302d4fe948694529468036811430201809486945294752e";
/// `>i4` 1: `>f8` 0.5, `<i4` 2: `<f8` 0.25, `>i2` -2: `>f4` 1.5, `>U3` "abc": `>u4` 7.
const ORDERS: &str = "800495cb010000000000007d94288c166e756d70792e5f636f72652e6d756c74696172726179948c067363616c61729493948c056e756d\
     7079948c0564747970659493948c02693494898887945294284b038c013e944e4e4e4affffffff4affffffff4b00749462430400000001\
     9486945294680368068c02663894898887945294284b03680a4e4e4e4affffffff4affffffff4b0074946243083fe00000000000009486\
     945294680368068c02693494898887945294284b038c013c944e4e4e4affffffff4affffffff4b00749462430402000000948694529468\
     0368068c02663894898887945294284b0368194e4e4e4affffffff4affffffff4b007494624308000000000000d03f9486945294680368\
     068c02693294898887945294284b03680a4e4e4e4affffffff4affffffff4b007494624302fffe9486945294680368068c026634948988\
     87945294284b03680a4e4e4e4affffffff4affffffff4b0074946243043fc000009486945294680368068c02553394898887945294284b\
     03680a4e4e4e4b0c4b044b08749462430c0000006100000062000000639486945294680368068c02753494898887945294284b03680a4e\
     4e4e4affffffff4affffffff4b007494624304000000079486945294752e";
/// `>i4` 1: `>f8` 0.5, protocol 0.
const ORDERS_0: &str = "286470300a636e756d70792e5f636f72652e6d756c746961727261790a7363616c61720a70310a28636e756d70790a64747970650a7032\
     0a285669340a70330a4930300a4930310a7470340a5270350a2849330a563e0a70360a4e4e4e492d310a492d310a49300a7470370a6263\
     5f636f646563730a656e636f64650a70380a28565c75303030305c75303030305c7530303030010a70390a566c6174696e310a7031300a\
     747031310a527031320a747031330a527031340a67310a2867320a285666380a7031350a4930300a4930310a747031360a527031370a28\
     49330a67360a4e4e4e492d310a492d310a49300a747031380a6267380a28563fe05c75303030305c75303030305c75303030305c753030\
     30305c75303030305c75303030300a7031390a6731300a747032300a527032310a747032320a527032330a732e";
/// `{2**40: -2**40}`, protocol 2.
const LONG: &str = "80027d71008a060000000000018a060000000000ff732e";

#[test]
fn every_protocol_reads_alike() {
    assert_eq!(
        read(PLAIN).expect("plain numbers"),
        [(Atom::Int(0), Atom::Float(0.25)), (Atom::Int(1), Atom::Int(1)), (Atom::Int(2), Atom::Int(-3))]
    );
    assert_eq!(read(NAMES).expect("plain names"), [(text("fän"), Atom::Int(0)), (text("b"), Atom::Int(1))]);
    for pickle in [MIXED_0, MIXED_2, MIXED_5] {
        let expected = [(Atom::Int(0), Atom::Float(0.25)), (Atom::Int(1), Atom::Float(0.5))];
        assert_eq!(read(pickle).expect("numpy scalars"), expected);
    }
    assert_eq!(read(LONG).expect("long numbers"), [(Atom::Int(1 << 40), Atom::Int(-1 << 40))]);
}

#[test]
fn scalars_of_every_kind_size_and_order_are_resolved() {
    assert_eq!(read(STRINGS).expect("text"), [(text("fan-1"), Atom::Int(3)), (text("fän-22"), Atom::Int(255))]);
    assert_eq!(
        read(SMALL).expect("small scalars"),
        [
            (Atom::Int(-1), Atom::Float(0.333_007_812_5)),
            (Atom::Int(2), Atom::Float(f64::INFINITY)),
            (Atom::Int(-300), Atom::Float(-(2f64.powi(-24)))),
        ]
    );
    assert_eq!(
        read(ORDERS).expect("both orders"),
        [
            (Atom::Int(1), Atom::Float(0.5)),
            (Atom::Int(2), Atom::Float(0.25)),
            (Atom::Int(-2), Atom::Float(1.5)),
            (text("abc"), Atom::Int(7)),
        ]
    );
    assert_eq!(read(ORDERS_0).expect("big-endian"), [(Atom::Int(1), Atom::Float(0.5))]);
}

#[test]
fn indices_are_whole_numbers_from_0() {
    assert_eq!(Atom::Float(3.0).index(), Some(3));
    assert_eq!(Atom::Int(0).index(), Some(0));
    for none in
        [Atom::Float(3.5), Atom::Float(-1.0), Atom::Float(f64::NAN), Atom::Int(-1), Atom::Int(1 << 32), text("3")]
    {
        assert_eq!(none.index(), None, "{none}");
    }
}

#[test]
fn what_else_python_can_pickle_is_named() {
    for (pickle, words) in [
        // {2**80: 1}
        ("80027d71008a0b00000000000000000000014b01732e", "at most 8 bytes"),
        // collections.OrderedDict(a=1)
        (
            "80049529000000000000008c0b636f6c6c656374696f6e73948c0b4f726465726564446963749493942952948c0161944b01732e",
            "found the global \"collections.OrderedDict\"",
        ),
        // {"a": [1]}
        ("8004950d000000000000007d948c0161945d944b0161732e", "found opcode 0x5d"),
        // d = {}; d["a"] = d
        ("8004950a000000000000007d948c0161946800732e", "found a dict of 1"),
        // os.system("true"), protocol 0
        ("636f730a73797374656d0a2856747275650a74522e", "found the global \"os.system\""),
        // 3
        ("80044b032e", "expected a dict, found the number 3"),
        // {} and a byte more
        ("80047d2e00", "expected the end at byte 4, found 1 more"),
    ] {
        let error = read(pickle).expect_err(words);
        assert!(error.contains(words), "{error}");
    }
    assert!(read("8004956a000000000000007d948c0161948c166e756d70792e5f636f72652e6d756c74696172726179948c067363616c61729493948c056e756d7079948c0564747970659493948c02623194898887945294284b038c017c944e4e4e4affffffff4affffffff4b007494624301019486945294732e").expect_err("a dtype").contains("found \"b1\""));
}

#[test]
fn every_truncation_is_an_error() {
    for pickle in [PLAIN, MIXED_0, MIXED_2, MIXED_5, STRINGS, ORDERS] {
        let bytes = hex(pickle);
        for length in 0..bytes.len() {
            assert!(read_dict(&bytes[..length]).is_err(), "{length} of {} bytes", bytes.len());
        }
    }
}

#[test]
fn serde_pickle_agrees_where_it_can() {
    use std::collections::BTreeMap;
    let names: BTreeMap<String, i64> = (0..300).map(|n| (format!("machine-{n}"), n * n * 1000 - 5)).collect();
    for options in [serde_pickle::SerOptions::new(), serde_pickle::SerOptions::new().proto_v2()] {
        let bytes = serde_pickle::to_vec(&names, options).expect("a dict that can be pickled");
        let expected: Vec<_> = names.iter().map(|(name, n)| (text(name), Atom::Int(*n))).collect();
        assert_eq!(read_dict(&bytes).expect("what serde-pickle wrote"), expected);
    }
}

/// Bytes that ask for more than they are: each answers at once, and in little memory.
#[test]
fn bombs_do_not_go_off() {
    let limit = 256 << 10;
    let repeat = |head: &[u8], body: &[u8], tail: &[u8]| {
        let times = (limit - head.len() - tail.len()) / body.len();
        [head, &body.repeat(times), tail].concat()
    };
    // A text of half the file, then a dict whose entries all are that text.
    let long = vec![b'a'; limit / 2];
    let head = [b"X".as_slice(), &(long.len() as u32).to_le_bytes(), &long, b"q\0}("].concat();
    let short = [b"X\xc8\0\0\0".as_slice(), &[b'a'; 200], b"q\0}("].concat();
    let call = |function: &str, text: usize| {
        let text = vec![b'0'; text];
        let texts =
            [b"X".as_slice(), &(text.len() as u32).to_le_bytes(), &text, b"q\x01X\x06\0\0\0latin1\x86q\x02"].concat();
        [b"c".as_slice(), function.as_bytes(), b"\nq\0", &texts].concat()
    };
    for (what, bytes) in [
        ("one text encoded, often", repeat(&call("_codecs\nencode", limit / 2), b"h\0h\x02R0", b".")),
        ("a dtype of a long code, often", repeat(&call("numpy\ndtype", limit / 2), b"h\0h\x02R0", b".")),
        ("one short text in the dict, often", repeat(&short, b"h\0h\0", b"u.")),
        ("marks", repeat(b"", b"(", b"")),
        ("nested tuples", repeat(b"N", b"\x85", b".")),
        ("doubling tuples", repeat(b"N", b"2\x86", b".")),
        ("doubling by memo", repeat(b"Nq\0", b"h\0h\0\x86q\0", b".")),
        ("one long text, often", repeat(&head, b"h\0h\0", b"u.")),
        ("a text of 2^63 bytes", b"\x8d\xff\xff\xff\xff\xff\xff\xff\x7f".to_vec()),
        ("bytes of 2^64-1", b"\x8e\xff\xff\xff\xff\xff\xff\xff\xff".to_vec()),
        ("a dict in itself, often", repeat(b"}q\0", b"h\0h\0s", b".")),
    ] {
        let start = std::time::Instant::now();
        assert!(read_dict(&bytes).is_err(), "{what}");
        assert!(start.elapsed().as_millis() < 1000, "{what}: {:?}", start.elapsed());
    }
}

/// One long text in the memo, and calls on it whose results are dropped at once.
fn dropped_calls(module: &str, name: &str, text: &str, calls: usize) -> Vec<u8> {
    let mut bytes = vec![0x80, 2];
    bytes.extend(format!("c{module}\n{name}\nq\x00X").bytes());
    bytes.extend(u32::try_from(text.len()).expect("a short text").to_le_bytes());
    bytes.extend(text.bytes());
    bytes.extend(b"q\x01X\x06\x00\x00\x00latin1\x86q\x02");
    for _ in 0..calls {
        bytes.extend(b"h\x00h\x02R0");
    }
    bytes.extend(b"}.");
    bytes
}

#[test]
fn what_is_made_and_dropped_again_is_bounded() {
    let (text, code) = ("a".repeat(128 << 10), format!("{}f8", "<".repeat(128 << 10)));
    for (module, name, text) in [("_codecs", "encode", text), ("numpy", "dtype", code)] {
        let once = dropped_calls(module, name, &text, 1);
        assert_eq!(read_dict(&once), Ok(Vec::new()), "{module}.{name}: one call is no attack");
        let error = read_dict(&dropped_calls(module, name, &text, 20_000)).expect_err("two gigabytes from 250 kB");
        assert!(error.contains("copied once or twice"), "{module}.{name}: {error}");
    }
}
