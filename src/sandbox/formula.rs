//! Formulas: the subset of the language that filters and the seeded formula fields use. Here the reading;
//! [`super::formula_eval`] finds the value.

use serde_json::{Value, json};

use super::cell::Look;
use super::formula_eval::{Scope, Val, eval, is_function, is_true};
use super::model::{Record, Table};

/// A formula, read.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Ast {
    Number(f64),
    Text(String),
    Field(String),
    Call(String, Vec<Ast>),
    Binary(&'static str, Box<Ast>, Box<Ast>),
    Negative(Box<Ast>),
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Number(f64),
    Text(String),
    Field(String),
    Word(String),
    Sign(&'static str),
}

const SIGNS: [&str; 14] = ["!=", "<=", ">=", "=", "<", ">", "&", "+", "-", "*", "/", "(", ")", ","];

fn tokens(text: &str) -> Option<Vec<Token>> {
    let chars: Vec<char> = text.chars().collect();
    let mut found = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        let c = chars[at];
        if c.is_whitespace() {
            at += 1;
        } else if c == '"' || c == '\'' || c == '{' {
            let end = if c == '{' { '}' } else { c };
            let mut inner = String::new();
            at += 1;
            loop {
                match *chars.get(at)? {
                    '\\' => {
                        let escaped = *chars.get(at + 1)?;
                        inner.push(match escaped {
                            'n' => '\n',
                            't' => '\t',
                            other => other,
                        });
                        at += 2;
                    }
                    here if here == end => break,
                    here => {
                        inner.push(here);
                        at += 1;
                    }
                }
            }
            at += 1;
            found.push(if c == '{' { Token::Field(inner) } else { Token::Text(inner) });
        } else if c.is_ascii_digit()
            || (c == '.' && chars.get(at + 1).is_some_and(char::is_ascii_digit))
        {
            let start = at;
            while at < chars.len() && (chars[at].is_ascii_digit() || chars[at] == '.') {
                at += 1;
            }
            found.push(Token::Number(chars[start..at].iter().collect::<String>().parse().ok()?));
        } else if c.is_alphabetic() || c == '_' {
            let start = at;
            while at < chars.len() && (chars[at].is_alphanumeric() || chars[at] == '_') {
                at += 1;
            }
            found.push(Token::Word(chars[start..at].iter().collect()));
        } else {
            let sign = SIGNS.iter().find(|sign| {
                sign.chars().enumerate().all(|(i, s)| chars.get(at + i) == Some(&s))
            })?;
            at += sign.len();
            found.push(Token::Sign(sign));
        }
    }
    Some(found)
}

/// Operators that bind alike, loosest first.
const LEVELS: [&[&str]; 4] = [&["=", "!=", "<", "<=", ">", ">="], &["&"], &["+", "-"], &["*", "/"]];

struct Parser {
    tokens: Vec<Token>,
    at: usize,
}

impl Parser {
    fn sign(&mut self, signs: &[&str]) -> Option<&'static str> {
        match self.tokens.get(self.at) {
            Some(Token::Sign(sign)) if signs.contains(sign) => {
                self.at += 1;
                Some(sign)
            }
            _ => None,
        }
    }

    fn binary(&mut self, level: usize) -> Option<Ast> {
        let Some(signs) = LEVELS.get(level) else { return self.unary() };
        let mut left = self.binary(level + 1)?;
        while let Some(sign) = self.sign(signs) {
            let right = self.binary(level + 1)?;
            left = Ast::Binary(sign, Box::new(left), Box::new(right));
        }
        Some(left)
    }

    fn unary(&mut self) -> Option<Ast> {
        if self.sign(&["-"]).is_some() {
            return Some(Ast::Negative(Box::new(self.unary()?)));
        }
        let token = self.tokens.get(self.at)?.clone();
        self.at += 1;
        match token {
            Token::Number(n) => Some(Ast::Number(n)),
            Token::Text(text) => Some(Ast::Text(text)),
            Token::Field(name) => Some(Ast::Field(name)),
            Token::Sign("(") => {
                let inner = self.binary(0)?;
                self.sign(&[")"])?;
                Some(inner)
            }
            Token::Word(word) if self.sign(&["("]).is_some() => {
                let name = word.to_uppercase();
                let mut arguments = Vec::new();
                if self.sign(&[")"]).is_none() {
                    loop {
                        arguments.push(self.binary(0)?);
                        if self.sign(&[","]).is_none() {
                            break;
                        }
                    }
                    self.sign(&[")"])?;
                }
                is_function(&name).then_some(Ast::Call(name, arguments))
            }
            Token::Word(word) => Some(Ast::Field(word)),
            Token::Sign(_) => None,
        }
    }
}

/// Reads a formula; none when it is not one.
pub(super) fn read(text: &str) -> Option<Ast> {
    let mut parser = Parser { tokens: tokens(text)?, at: 0 };
    let ast = parser.binary(0)?;
    (parser.at == parser.tokens.len()).then_some(ast)
}

/// The field that a formula means: by id, or by name whatever its case.
pub(super) fn field_named<'a>(table: &'a Table, name: &str) -> Option<&'a super::model::Field> {
    let folded = name.to_lowercase();
    table
        .fields
        .iter()
        .find(|field| field.id == name)
        .or_else(|| table.fields.iter().find(|field| field.name.to_lowercase() == folded))
}

/// Fields that the formula names, as written.
pub(super) fn fields_in(ast: &Ast) -> Vec<String> {
    match ast {
        Ast::Field(name) => vec![name.clone()],
        Ast::Call(_, arguments) => arguments.iter().flat_map(fields_in).collect(),
        Ast::Binary(_, left, right) => [fields_in(left), fields_in(right)].concat(),
        Ast::Negative(inner) => fields_in(inner),
        Ast::Number(_) | Ast::Text(_) => Vec::new(),
    }
}

/// Why a filter cannot be used, in Airtable's words.
pub(super) fn read_filter(table: &Table, text: &str) -> Result<Ast, String> {
    let Some(ast) = read(text) else {
        return Err("Invalid formula. Please check your formula text.".into());
    };
    let unknown: Vec<String> = fields_in(&ast)
        .into_iter()
        .filter(|name| field_named(table, name).is_none())
        .map(|name| name.to_lowercase())
        .collect();
    if unknown.is_empty() {
        Ok(ast)
    } else {
        Err(format!("Unknown field names: {}", unknown.join(", ")))
    }
}

/// Whether a record passes a filter.
pub(super) fn passes(look: &Look<'_>, table: &Table, record: &Record, filter: &Ast) -> bool {
    is_true(&eval(&Scope { look, table, record }, filter))
}

/// The value of a formula field's cell, as over REST.
pub(super) fn evaluate(look: &Look<'_>, table: &Table, record: &Record, text: &str) -> Value {
    let Some(ast) = read(text) else { return json!({ "error": "#ERROR!" }) };
    to_json(&eval(&Scope { look, table, record }, &ast))
}

fn to_json(value: &Val) -> Value {
    match value {
        Val::Blank => Value::Null,
        Val::Number(n) => to_json_number(*n),
        Val::Text(text) => json!(text),
        Val::Bool(set) => json!(set),
        Val::Date(ms) => super::cell::instant(*ms),
        Val::List(items) => Value::Array(items.iter().map(to_json).collect()),
        Val::Error => json!({ "error": "#ERROR!" }),
    }
}

/// A number as JSON; whole ones without a point, and the objects that stand for NaN and infinity.
#[expect(clippy::cast_possible_truncation, reason = "only whole numbers below 2^53")]
pub(super) fn to_json_number(n: f64) -> Value {
    if n.is_nan() {
        json!({ "specialValue": "NaN" })
    } else if n.is_infinite() {
        json!({ "specialValue": if n > 0.0 { "Infinity" } else { "-Infinity" } })
    } else if n.fract() == 0.0 && n.abs() < 9.0e15 {
        json!(n as i64)
    } else {
        json!(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formula_l13_reads_what_filters_use() {
        for text in [
            "RECORD_ID()='recA'",
            "OR(RECORD_ID()='recA', RECORD_ID()=\"recB\")",
            "AND({Nom complet}='Zoé \\'x\\'', NOT({Newsletter}))",
            "IS_AFTER(LAST_MODIFIED_TIME(), '2026-01-01T00:00:00.000Z')",
            "{fld00000000000001} != BLANK()",
            "-1 + 2 * (3 - {n}) >= 4",
            "Name & '-' & 3",
        ] {
            assert!(read(text).is_some(), "{text}");
        }
        for text in ["", "AND(", "1 +", "{open", "NO_SUCH(1)", "1 2", "'open"] {
            assert!(read(text).is_none(), "{text}");
        }
    }

    #[test]
    fn formula_l13_multiplication_binds_closer() {
        let ast = read("1+2*3").unwrap();
        assert!(
            matches!(ast, Ast::Binary("+", _, right) if matches!(*right, Ast::Binary("*", _, _)))
        );
    }
}
