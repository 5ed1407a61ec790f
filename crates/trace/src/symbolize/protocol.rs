//! The messages to and from the worker process that reads debug information.

/// The maximum length of a name; longer ones are cut.
const TEXT_MAX: usize = 4 << 10;

/// The maximum number of functions at one address: inlined ones.
const FUNCTIONS_MAX: usize = 64;

/// A question: the functions at some offsets of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) path: String,
    pub(super) offsets: Vec<u64>,
}

/// A function at an address. Not escaped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Function {
    /// The name; empty if it is unknown.
    pub(super) name: String,
    /// The source.
    pub(super) file: Option<String>,
    /// The line; 0 if it is unknown.
    pub(super) line: u32,
    /// The column; 0 if it is unknown.
    pub(super) column: u32,
}

/// For each offset the functions there, innermost first; an error if the file cannot be used.
pub(super) type Answer = Result<Vec<Vec<Function>>, String>;

impl Request {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        put_text(&mut bytes, &self.path);
        put_number(&mut bytes, self.offsets.len() as u64);
        self.offsets.iter().for_each(|offset| put_number(&mut bytes, *offset));
        bytes
    }

    pub(super) fn decode(mut bytes: &[u8]) -> Option<Request> {
        let path = text(&mut bytes)?;
        let count = number(&mut bytes)?;
        let offsets = (0..count).map(|_| number(&mut bytes)).collect::<Option<_>>()?;
        Some(Request { path, offsets })
    }
}

/// The answer as a message.
pub(super) fn encode(answer: &Answer) -> Vec<u8> {
    let mut bytes = Vec::new();
    match answer {
        Err(error) => {
            put_number(&mut bytes, 1);
            put_text(&mut bytes, error);
        }
        Ok(places) => {
            put_number(&mut bytes, 0);
            put_number(&mut bytes, places.len() as u64);
            for functions in places {
                let functions = &functions[..functions.len().min(FUNCTIONS_MAX)];
                put_number(&mut bytes, functions.len() as u64);
                for function in functions {
                    put_text(&mut bytes, &function.name);
                    put_number(&mut bytes, u64::from(function.file.is_some()));
                    put_text(&mut bytes, function.file.as_deref().unwrap_or_default());
                    put_number(&mut bytes, u64::from(function.line));
                    put_number(&mut bytes, u64::from(function.column));
                }
            }
        }
    }
    bytes
}

/// The answer in a message; nothing if it is damaged.
pub(super) fn decode(mut bytes: &[u8]) -> Option<Answer> {
    if number(&mut bytes)? == 1 {
        return Some(Err(text(&mut bytes)?));
    }
    let mut places = Vec::new();
    for _ in 0..number(&mut bytes)? {
        let mut functions = Vec::new();
        for _ in 0..number(&mut bytes)? {
            let name = text(&mut bytes)?;
            let has_file = number(&mut bytes)? == 1;
            let file = text(&mut bytes)?;
            functions.push(Function {
                name,
                file: has_file.then_some(file),
                line: number(&mut bytes)? as u32,
                column: number(&mut bytes)? as u32,
            });
        }
        places.push(functions);
    }
    Some(Ok(places))
}

fn put_number(bytes: &mut Vec<u8>, number: u64) {
    bytes.extend_from_slice(&number.to_le_bytes());
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    let text = &text[..text.floor_char_boundary(TEXT_MAX)];
    put_number(bytes, text.len() as u64);
    bytes.extend_from_slice(text.as_bytes());
}

fn number(bytes: &mut &[u8]) -> Option<u64> {
    let (first, rest) = bytes.split_first_chunk::<8>()?;
    *bytes = rest;
    Some(u64::from_le_bytes(*first))
}

fn text(bytes: &mut &[u8]) -> Option<String> {
    let length = usize::try_from(number(bytes)?).ok()?;
    let (first, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(String::from_utf8_lossy(first).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_survive_the_way_and_damaged_ones_are_refused() {
        let request = Request { path: "/bin/a".into(), offsets: vec![1, u64::MAX] };
        assert_eq!(Request::decode(&request.encode()), Some(request));
        let function = |name: &str, file: Option<&str>| Function {
            name: name.into(),
            file: file.map(str::to_owned),
            line: 3,
            column: 4,
        };
        let places = vec![vec![function("a", None), function("b", Some("b.c"))], Vec::new()];
        for answer in [Ok(places), Err(String::from("damaged"))] {
            let bytes = encode(&answer);
            assert_eq!(decode(&bytes), Some(answer));
            (0..bytes.len()).for_each(|length| assert_eq!(decode(&bytes[..length]), None));
        }
    }
}
