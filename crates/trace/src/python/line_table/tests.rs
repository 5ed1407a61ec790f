//! Tests of the line table, with tables that Python made.
//!
//! The function has a comprehension, statements of several lines, `with`, `try`, and 100 empty lines. The
//! lines are those of `co_lines()`, in code units of two bytes.

use super::*;

/// A table and the lines that Python itself decodes: pairs of the first unit and the line, 0 for none.
struct Sample {
    table: &'static str,
    lines: &'static str,
}

const SAMPLE_3_11: Sample = Sample {
    table: "\
        8000f002070d06f000070d06f00a00151af00b070d06f100070d06f400070d068045f01007051bdd0d119025\
        98019428895e8c5ef0000209329875a564d80c1190218c48f103012716f400012716f000020932d8191fd818\
        1dd00c31d00c31900498769f7c9a7ca844d11f31d41f31d01f31d01f31d00c31f005020932f000020932f000\
        020932f100020932f400020932f000020932f000020932f000020932f000020932f000020932f000020932f8\
        f8f8f000020932f000020932f000020932f000020932f000020932f000020932f000020932f100020932f400\
        020932f000020932f000020932f000020932f000020932f000020932f000020932f8f8f8f000020932f00002\
        0932f000020932f000020932f8f8f506000c13f00001054101f00001054101f00001054101dd0e18a003a00b\
        98139813b013d10e35d40e35b835d00840f8f8f8f8f00301054101f8f8f8f00600090cd0081a900390039045\
        910a940af8f8f88803d0081a900390039045910a940a900a900ad0081ad0081af8f8f8f04a03000b10f00002\
        050c901597199219911b941b901bdd13169075913a943aa001923e903ef00300282da853a862a853a47aa07a\
        e0080af005001f248825f00002050cf006000c11804c",
    lines: "\
        0:2 1:3 3:8 4:3 13:11 14:12 42:13 49:12 57:13 58:14 85:12 101:0 104:12 124:0 127:12 131:0 \
        133:15 142:16 162:0 166:15 167:0 170:18 182:0 185:18 201:0 204:119 226:120 245:119 \
        255:121 256:119 259:122 261:0",
};

const SAMPLE_3_13: Sample = Sample {
    table: "\
        8000f10c00151af30b070d06f10a00151a8844dc0b0ff30b0309138c04d80c10d80c10f30503090af706000b\
        1189268b28f207030913f10800151af00b00050af000070d06f01007051bdc0d119025980191288c5e9875a4\
        64d80c1190218948f403012716d8191fdb181d90049f7c997ca844d61f319905f7050127168f5ef00c00090c\
        d7081a91039045930af8f64a03000b10901597199119941bdc13169075933aa001933ef00300282da853a862\
        a17ae0080af005001f248f25f006000c11804cf9f26f03070d06f712012716f500012716fa8f5e8d5efbf406\
        000c13f30001054101dc0e18a003a10b9813d30e35b835d00840b013d30e35b835d00840fbf00301054101fb\
        f00600090cd7081a91039045950ad1081afa",
    lines: "\
        0:2 1:8 3:3 7:8 10:9 15:4 24:5 25:6 26:4 30:7 44:4 47:8 49:3 51:11 52:12 72:13 76:12 \
        81:13 82:14 107:12 123:18 139:0 140:119 163:120 178:119 183:121 184:119 193:122 195:0 \
        197:3 200:12 214:0 217:12 231:0 235:15 244:16 266:0 270:15 271:0 275:18 295:0",
};

const NO_COLUMNS_3_12: Sample = Sample {
    table: "\
        e800e80cee0be80ae902ec0be802e802eb05ef06e900eb00e907e803e800e800e810ec02e800e800e900eb00\
        e800e800ec00e802e800e900eb03e800e802e802ea00e800e800ef00e900e800ed00e900ef05ef00e80cea00\
        e900e800eb00f8e94a03e800ef00e900ec00ec02e800eb00e800ea00e803e800e800e900e804e805ea00e806\
        e800f9ea6f03ef12e800faef00e800fbec06ea00ec02e800e800e800eb00e800e800e800eb00e800e800fbe8\
        03fbe806ea00e900e800ed00e900fa",
    lines: "\
        0:2 1:8 2:3 9:8 10:9 12:4 17:5 18:6 19:4 23:7 37:4 39:3 42:11 43:12 63:13 67:12 72:13 \
        73:14 98:12 114:18 125:0 126:119 144:120 158:119 163:121 164:119 168:122 170:0 172:3 \
        175:12 184:0 187:12 196:0 200:15 208:16 229:0 233:15 234:0 238:18 253:0",
};

fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks_exact(2);
    digits.map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn pairs(text: &str) -> Vec<(u32, u32)> {
    let pairs = text.split_ascii_whitespace().map(|pair| pair.split_once(':').unwrap());
    pairs.map(|(unit, line)| (unit.parse().unwrap(), line.parse().unwrap())).collect()
}

#[test]
fn tables_are_decoded_as_python_decodes_them() {
    for (name, sample) in
        [("3.11", SAMPLE_3_11), ("3.13", SAMPLE_3_13), ("without columns", NO_COLUMNS_3_12)]
    {
        let runs = decode(&bytes(sample.table), 2);
        let lines = pairs(sample.lines);
        for pair in lines.windows(2) {
            for unit in pair[0].0..pair[1].0 {
                assert_eq!(line_of(&runs, unit), pair[0].1, "{name}, unit {unit}");
            }
        }
        let end = lines.last().unwrap().0;
        assert_eq!(line_of(&runs, end + 1000), 0, "{name}");
    }
}

#[test]
fn a_table_with_a_defect_is_decoded_up_to_it() {
    // One unit of line 8, and then a byte that begins no entry.
    let runs = decode(&[0x80 | 11 << 3, 0, 0, 0x00, 0x80], 7);
    assert_eq!(runs, [Run { start: 0, line: 8 }, Run { start: 1, line: 0 }]);
    // A number that does not end, and one that is cut off.
    for table in [&[0x80 | 13 << 3, 0x7f, 0x7f, 0x7f, 0x7f, 0x7f, 0x7f, 0x7f][..], &[0xe8]] {
        assert_eq!(decode(table, 7), [Run { start: 0, line: 0 }]);
    }
    assert_eq!(line_of(&decode(&[], 7), 0), 0);
}

#[test]
fn a_line_before_the_first_is_no_line() {
    // No columns, 20 lines back.
    let runs = decode(&[0x80 | 13 << 3, 41], 7);
    assert_eq!(line_of(&runs, 0), 0);
}

#[test]
fn any_bytes_are_decoded_without_a_panic_to_no_more_runs_than_bytes() {
    let mut state = 1u64;
    for _ in 0..2000 {
        let table: Vec<u8> = (0..64)
            .map(|_| {
                // Knuth's constants of MMIX.
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let begins_entry = state >> 33 & 3 != 0;
                (state >> 56) as u8 | if begins_entry { 0x80 } else { 0 }
            })
            .collect();
        let runs = decode(&table, u32::MAX);
        assert!(runs.len() <= table.len() + 1);
        assert!(runs.windows(2).all(|pair| pair[0].start <= pair[1].start));
    }
}
