#!/usr/bin/env python3
"""Makes a LiteRT that does without AVX-512, to compare kernels of one instruction set with each other.

    benches/litert_avx2.py [target/litert/x86_64/libLiteRt.so]      writes libLiteRt.avx2.so beside it

XNNPACK asks the processor what it can, and the system (xgetbv) which registers it saves; it has no setting for either. The
copy answers for the system: those of SSE and AVX only, as on a processor that ends there. Only for measuring.
"""
import pathlib
import sys

XGETBV = bytes.fromhex("0f01d0")
# mov al, 7; nop: x87, SSE and AVX. The bits of AVX-512, 5 to 7, are cleared with the rest of the byte.
ANSWER = bytes.fromhex("b00790")


def main():
    default = pathlib.Path(__file__).resolve().parent.parent / "target/litert/x86_64/libLiteRt.so"
    library = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else default
    code = library.read_bytes()
    places = code.count(XGETBV)
    if places != 1:
        raise SystemExit(f"{library}: expected one place that asks the system, found {places}")
    copy = library.with_suffix(".avx2.so")
    copy.write_bytes(code.replace(XGETBV, ANSWER))
    print(copy)


if __name__ == "__main__":
    main()
