//! From tokens to the tree of a template.

use std::fmt;

use super::TemplateError;
use super::lexer::{Token, TokenKind, error_at, tokenize};

/// Actions may nest this deep; a template beyond it is refused.
const MAXIMUM_DEPTH: usize = 64;

/// One element of a template.
#[derive(Debug)]
pub enum Node {
    /// Text printed as it is.
    Text(String),
    /// A pipeline whose value is printed, unless it declares variables.
    Action(Pipe),
    /// `if`, with its `else`.
    If(Branch),
    /// `with`, with its `else`.
    With(Branch),
    /// `range`, with its `else`.
    Range(Branch),
    /// `template "name" pipeline`.
    Template(String, Option<Pipe>, usize),
    /// `break` out of a range.
    Break,
    /// `continue` a range.
    Continue,
}

/// A control structure: condition, body, alternative.
#[derive(Debug)]
pub struct Branch {
    /// What decides.
    pub pipe: Pipe,
    /// Executed when it holds.
    pub body: Vec<Node>,
    /// Executed when it does not.
    pub otherwise: Vec<Node>,
}

/// Commands joined by `|`, with the variables they set.
#[derive(Debug)]
pub struct Pipe {
    /// Variables on the left, with their dollar.
    pub variables: Vec<String>,
    /// Whether `=` (an assignment) rather than `:=` was written.
    pub assigns: bool,
    /// The commands; the value of each is the last argument of the next.
    pub commands: Vec<Command>,
}

/// A function call, or a single operand.
#[derive(Debug)]
pub struct Command {
    /// Byte offset in the template.
    pub position: usize,
    /// The words of the command.
    pub arguments: Vec<Argument>,
}

/// One word of a command with its place.
#[derive(Debug)]
pub struct Argument {
    /// Byte offset that Go would report for it.
    pub position: usize,
    /// What it is.
    pub operand: Operand,
}

/// The kinds of words.
#[derive(Debug)]
pub enum Operand {
    /// `.`
    Dot,
    /// `nil`
    Nil,
    /// `true`, `false`
    Bool(bool),
    /// A number as written.
    Number(String),
    /// A character constant and its source.
    Character(char, String),
    /// A string and its source.
    Text(String, String),
    /// A function's name.
    Function(String),
    /// `.A.B`
    Field(Vec<String>),
    /// `$x.A.B`
    Variable(String, Vec<String>),
    /// `(pipeline).A.B`
    Parenthesis(Box<Pipe>, Vec<String>),
}

impl Pipe {
    /// Whether this is `.name` and nothing else.
    pub fn is_only_field(&self, name: &str) -> bool {
        self.variables.is_empty()
            && matches!(self.commands.as_slice(), [Command { arguments, .. }]
                if matches!(arguments.as_slice(), [Argument { operand: Operand::Field(path), .. }] if path == &[name]))
    }
}

impl fmt::Display for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.variables.is_empty() {
            write!(f, "{} {} ", self.variables.join(", "), if self.assigns { "=" } else { ":=" })?;
        }
        for (index, command) in self.commands.iter().enumerate() {
            if index > 0 {
                f.write_str(" | ")?;
            }
            write!(f, "{command}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, argument) in self.arguments.iter().enumerate() {
            if index > 0 {
                f.write_str(" ")?;
            }
            match &argument.operand {
                Operand::Parenthesis(pipe, fields) if fields.is_empty() => write!(f, "({pipe})")?,
                _ => write!(f, "{argument}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Argument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields =
            |f: &mut fmt::Formatter<'_>, fields: &[String]| fields.iter().try_for_each(|field| write!(f, ".{field}"));
        match &self.operand {
            Operand::Dot => f.write_str("."),
            Operand::Nil => f.write_str("nil"),
            Operand::Bool(value) => write!(f, "{value}"),
            Operand::Number(source) | Operand::Character(_, source) | Operand::Text(_, source) => f.write_str(source),
            Operand::Function(name) => f.write_str(name),
            Operand::Field(path) => fields(f, path),
            Operand::Variable(name, path) => {
                f.write_str(name)?;
                fields(f, path)
            }
            Operand::Parenthesis(pipe, path) => {
                write!(f, "({pipe})")?;
                fields(f, path)
            }
        }
    }
}

type Definitions = Vec<(String, Vec<Node>)>;

/// Parses a whole template: its body and the templates it defines.
pub fn parse(text: &str) -> Result<(Vec<Node>, Definitions), TemplateError> {
    let mut parser = Parser { text, tokens: tokenize(text)?, next: 0, depth: 0, ranges: 0, definitions: Vec::new() };
    let (nodes, end) = parser.list()?;
    match end {
        End::OfText => Ok((nodes, parser.definitions)),
        End::Keyword(keyword, position) => Err(error_at(text, position, format!("unexpected {{{{{keyword}}}}}"))),
    }
}

/// What ended a list of nodes.
enum End {
    OfText,
    Keyword(&'static str, usize),
}

struct Parser<'a> {
    text: &'a str,
    tokens: Vec<Token>,
    next: usize,
    depth: usize,
    ranges: usize,
    definitions: Definitions,
}

impl Parser<'_> {
    fn peek(&self) -> Option<&TokenKind> {
        self.tokens.get(self.next).map(|token| &token.kind)
    }

    fn position(&self) -> usize {
        self.tokens.get(self.next).map_or(self.text.len(), |token| token.position)
    }

    fn spaces(&mut self) {
        while self.peek() == Some(&TokenKind::Space) {
            self.next += 1;
        }
    }

    fn fail<T>(&self, message: impl Into<String>) -> Result<T, TemplateError> {
        Err(error_at(self.text, self.position(), message))
    }

    fn close(&mut self, context: &str) -> Result<(), TemplateError> {
        self.spaces();
        if self.peek() == Some(&TokenKind::Close) {
            self.next += 1;
            return Ok(());
        }
        self.fail(format!("unexpected token in {context}"))
    }

    fn list(&mut self) -> Result<(Vec<Node>, End), TemplateError> {
        self.depth += 1;
        if self.depth > MAXIMUM_DEPTH {
            return self.fail("template is nested too deeply");
        }
        let mut nodes = Vec::new();
        let end = loop {
            let Some(token) = self.tokens.get(self.next).cloned() else { break End::OfText };
            self.next += 1;
            match token.kind {
                TokenKind::Text(text) => nodes.push(Node::Text(text)),
                _ => {
                    self.spaces();
                    if let Some(end) = self.action(&mut nodes)? {
                        break end;
                    }
                }
            }
        };
        self.depth -= 1;
        Ok((nodes, end))
    }

    /// Parses what stands after `{{`.
    fn action(&mut self, nodes: &mut Vec<Node>) -> Result<Option<End>, TemplateError> {
        let position = self.position();
        let word = match self.peek() {
            Some(TokenKind::Word(word)) => word.clone(),
            _ => String::new(),
        };
        let control = matches!(
            word.as_str(),
            "if" | "with" | "range" | "template" | "define" | "block" | "break" | "continue" | "end" | "else"
        );
        if control {
            self.next += 1;
        }
        match word.as_str() {
            "end" => {
                self.close("end")?;
                return Ok(Some(End::Keyword("end", position)));
            }
            "else" => {
                self.spaces();
                let chained = matches!(self.peek(), Some(TokenKind::Word(word)) if word == "if" || word == "with");
                if !chained {
                    self.close("else")?;
                }
                return Ok(Some(End::Keyword("else", position)));
            }
            "if" => nodes.push(Node::If(self.branch("if")?)),
            "with" => nodes.push(Node::With(self.branch("with")?)),
            "range" => {
                self.ranges += 1;
                let branch = self.branch("range")?;
                self.ranges -= 1;
                nodes.push(Node::Range(branch));
            }
            "break" | "continue" => {
                if self.ranges == 0 {
                    return self.fail(format!("{{{{{word}}}}} outside {{{{range}}}}"));
                }
                self.close(&word)?;
                nodes.push(if word == "break" { Node::Break } else { Node::Continue });
            }
            "template" | "define" | "block" => self.named(&word, position, nodes)?,
            _ => {
                let pipe = self.pipe("command", true)?;
                self.next += 1;
                nodes.push(Node::Action(pipe));
            }
        }
        Ok(None)
    }

    fn named(&mut self, keyword: &str, position: usize, nodes: &mut Vec<Node>) -> Result<(), TemplateError> {
        self.spaces();
        let Some(TokenKind::Quoted(name, _)) = self.peek().cloned() else {
            return self.fail(format!("unexpected token in {keyword} clause"));
        };
        self.next += 1;
        self.spaces();
        let pipe = match (keyword, self.peek()) {
            ("define", _) | (_, Some(TokenKind::Close)) => {
                self.close(keyword)?;
                None
            }
            _ => {
                let pipe = self.pipe(keyword, true)?;
                self.next += 1;
                Some(pipe)
            }
        };
        if keyword != "template" {
            let (body, end) = self.list()?;
            let End::Keyword("end", _) = end else { return self.fail(format!("unexpected EOF in {keyword}")) };
            self.definitions.push((name.clone(), body));
        }
        if keyword != "define" {
            nodes.push(Node::Template(name, pipe, position));
        }
        Ok(())
    }

    fn branch(&mut self, keyword: &str) -> Result<Branch, TemplateError> {
        self.spaces();
        let pipe = self.pipe(keyword, true)?;
        self.next += 1;
        let (body, end) = self.list()?;
        let mut otherwise = Vec::new();
        match end {
            End::Keyword("else", _) => match self.peek().cloned() {
                Some(TokenKind::Word(word)) if word == "if" || word == "with" => {
                    self.next += 1;
                    let inner = self.branch(&word)?;
                    otherwise.push(if word == "if" { Node::If(inner) } else { Node::With(inner) });
                }
                _ => {
                    let (nodes, end) = self.list()?;
                    let End::Keyword("end", _) = end else {
                        return self.fail(format!("expected end; found EOF in {keyword}"));
                    };
                    otherwise = nodes;
                }
            },
            End::Keyword(..) => {}
            End::OfText => return self.fail("unexpected EOF"),
        }
        Ok(Branch { pipe, body, otherwise })
    }

    /// Parses a pipeline up to `}}` (`in_action`) or `)`, which is left unread.
    fn pipe(&mut self, context: &str, in_action: bool) -> Result<Pipe, TemplateError> {
        self.depth += 1;
        if self.depth > MAXIMUM_DEPTH {
            return self.fail("template is nested too deeply");
        }
        let (variables, assigns) = self.declarations(context)?;
        let mut commands = Vec::new();
        loop {
            self.spaces();
            match self.peek() {
                Some(TokenKind::Close) if in_action => break,
                Some(TokenKind::RightParenthesis) if !in_action => break,
                Some(TokenKind::RightParenthesis) => return self.fail("unexpected right paren"),
                Some(TokenKind::Close) | None => return self.fail("unclosed left paren"),
                _ => commands.push(self.command()?),
            }
        }
        if commands.is_empty() {
            return self.fail(format!("missing value for {context}"));
        }
        for command in &commands[1..] {
            if !matches!(
                command.arguments[0].operand,
                Operand::Function(_) | Operand::Field(_) | Operand::Variable(..) | Operand::Parenthesis(..)
            ) {
                return self.fail(format!("non executable command in pipeline stage {}", commands.len()));
            }
        }
        self.depth -= 1;
        Ok(Pipe { variables, assigns, commands })
    }

    fn declarations(&mut self, context: &str) -> Result<(Vec<String>, bool), TemplateError> {
        self.spaces();
        let start = self.next;
        let mut variables = Vec::new();
        while let Some(TokenKind::Variable(name)) = self.peek().cloned() {
            self.next += 1;
            self.spaces();
            variables.push(name);
            match self.peek() {
                Some(TokenKind::Declare) => {
                    self.next += 1;
                    return Ok((variables, false));
                }
                Some(TokenKind::Assign) => {
                    self.next += 1;
                    return Ok((variables, true));
                }
                Some(TokenKind::Comma) if context == "range" && variables.len() == 1 => {
                    self.next += 1;
                    self.spaces();
                }
                Some(TokenKind::Comma) => return self.fail(format!("too many declarations in {context}")),
                _ => break,
            }
        }
        self.next = start;
        Ok((Vec::new(), false))
    }

    fn command(&mut self) -> Result<Command, TemplateError> {
        let position = self.position();
        let mut arguments = Vec::new();
        loop {
            self.spaces();
            match self.peek() {
                Some(TokenKind::Pipe) => {
                    self.next += 1;
                    self.spaces();
                    if matches!(self.peek(), Some(TokenKind::Close | TokenKind::RightParenthesis) | None) {
                        return self.fail("missing value for command");
                    }
                    break;
                }
                Some(TokenKind::Close | TokenKind::RightParenthesis) | None => break,
                _ => arguments.push(self.argument()?),
            }
            match self.peek() {
                Some(TokenKind::Space | TokenKind::Pipe | TokenKind::Close | TokenKind::RightParenthesis) => {}
                _ => return self.fail("unexpected token in operand"),
            }
        }
        if arguments.is_empty() {
            return Err(error_at(self.text, position, "empty command"));
        }
        Ok(Command { position, arguments })
    }

    fn argument(&mut self) -> Result<Argument, TemplateError> {
        let position = self.position();
        let Some(kind) = self.peek().cloned() else { return self.fail("unexpected EOF") };
        self.next += 1;
        let mut operand = match kind {
            TokenKind::Dot => Operand::Dot,
            TokenKind::Field(name) => Operand::Field(vec![name]),
            TokenKind::Variable(name) => Operand::Variable(name, Vec::new()),
            TokenKind::Quoted(text, source) => Operand::Text(text, source),
            TokenKind::Character(c, source) => Operand::Character(c, source),
            TokenKind::Number(source) => Operand::Number(source),
            TokenKind::Word(word) => match word.as_str() {
                "true" => Operand::Bool(true),
                "false" => Operand::Bool(false),
                "nil" => Operand::Nil,
                name if super::functions::exists(name) => Operand::Function(word),
                name => {
                    let message = format!("function {name:?} not defined");
                    return Err(error_at(self.text, position, message));
                }
            },
            TokenKind::LeftParenthesis => {
                let pipe = self.pipe("parenthesized pipeline", false)?;
                self.next += 1;
                Operand::Parenthesis(Box::new(pipe), Vec::new())
            }
            _ => {
                self.next -= 1;
                return self.fail("unexpected token in operand");
            }
        };
        let last = self.chain(&mut operand)?;
        Ok(Argument { position: last.unwrap_or(position), operand })
    }

    /// Appends `.A.B` to an operand; the answer is the place of the first appended field, which Go reports.
    fn chain(&mut self, operand: &mut Operand) -> Result<Option<usize>, TemplateError> {
        let mut first = None;
        while let Some(TokenKind::Field(name)) = self.peek().cloned() {
            let position = self.position();
            match operand {
                Operand::Field(path) | Operand::Variable(_, path) | Operand::Parenthesis(_, path) => path.push(name),
                _ => return self.fail(format!("unexpected . after term {name:?}")),
            }
            first.get_or_insert(position);
            self.next += 1;
        }
        Ok(first)
    }
}
