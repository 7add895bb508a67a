//! Executes a template's tree.

use std::rc::Rc;

use super::parse::{Argument, Branch, Command, Node, Operand, Pipe};
use super::value::Value;
use super::{JsonStyle, TemplateError, functions};

/// Templates may call each other this deep.
const MAXIMUM_CALLS: usize = 64;

/// Executes `nodes` over `dot`.
pub fn execute(
    text: &str,
    nodes: &[Node],
    definitions: &[(String, Vec<Node>)],
    dot: &Value,
    style: JsonStyle,
) -> Result<String, TemplateError> {
    let mut state = State {
        text,
        definitions,
        style,
        variables: vec![("$".to_owned(), dot.clone())],
        out: String::new(),
        calls: 0,
    };
    state.list(nodes, dot)?;
    Ok(state.out)
}

/// Whether the enclosing `range` goes on.
#[derive(PartialEq)]
enum Flow {
    Next,
    Break,
    Continue,
}

struct State<'a> {
    text: &'a str,
    definitions: &'a [(String, Vec<Node>)],
    style: JsonStyle,
    variables: Vec<(String, Value)>,
    out: String,
    calls: usize,
}

/// Where an error happened: byte offset and the node as text.
struct Place {
    position: usize,
    context: String,
}

impl Place {
    fn command(command: &Command) -> Self {
        Self { position: command.position, context: command.to_string() }
    }

    fn argument(argument: &Argument) -> Self {
        Self { position: argument.position, context: argument.to_string() }
    }
}

type Result_<T> = Result<T, TemplateError>;

impl State<'_> {
    fn fail<T>(&self, place: &Place, message: impl Into<String>) -> Result_<T> {
        let before = self.text.get(..place.position).unwrap_or(self.text);
        let column = before.rfind('\n').map_or(place.position, |line| place.position - line - 1);
        let line = 1 + before.matches('\n').count();
        Err(TemplateError::Execute { line, column, context: place.context.clone(), message: message.into() })
    }

    fn list(&mut self, nodes: &[Node], dot: &Value) -> Result_<Flow> {
        for node in nodes {
            match node {
                Node::Text(text) => self.out.push_str(text),
                Node::Action(pipe) => {
                    let value = self.pipe(pipe, dot)?;
                    if pipe.variables.is_empty() {
                        self.out.push_str(&value.printed());
                    }
                }
                Node::If(branch) | Node::With(branch) => {
                    let flow = self.choose(branch, matches!(node, Node::With(_)), dot)?;
                    if flow != Flow::Next {
                        return Ok(flow);
                    }
                }
                Node::Range(branch) => self.range(branch, dot)?,
                Node::Template(name, pipe, position) => self.call(name, pipe.as_ref(), *position, dot)?,
                Node::Break => return Ok(Flow::Break),
                Node::Continue => return Ok(Flow::Continue),
            }
        }
        Ok(Flow::Next)
    }

    fn choose(&mut self, branch: &Branch, with: bool, dot: &Value) -> Result_<Flow> {
        let mark = self.variables.len();
        let value = self.pipe(&branch.pipe, dot)?;
        let flow = match (value.is_true(), with) {
            (true, true) => self.list(&branch.body, &value),
            (true, false) => self.list(&branch.body, dot),
            (false, _) => self.list(&branch.otherwise, dot),
        };
        self.variables.truncate(mark);
        flow
    }

    fn range(&mut self, branch: &Branch, dot: &Value) -> Result_<()> {
        let mark = self.variables.len();
        let value = self.commands(&branch.pipe, dot)?;
        let pairs: Vec<(Value, Value)> = match &value {
            Value::List(items) => {
                items.iter().enumerate().map(|(index, item)| (Value::Int(index as i64), item.clone())).collect()
            }
            Value::Map(members) => {
                members.iter().map(|(key, value)| (Value::Text(key.clone()), value.clone())).collect()
            }
            Value::Int(count) => (0..*count).map(|index| (Value::Int(index), Value::Int(index))).collect(),
            Value::Missing | Value::Nil(_) => Vec::new(),
            other => {
                let place = Place::command(&branch.pipe.commands[0]);
                return self.fail(&place, format!("range can't iterate over {}", other.printed()));
            }
        };
        if pairs.is_empty() {
            self.list(&branch.otherwise, dot)?;
        }
        for (key, item) in pairs {
            self.variables.truncate(mark);
            let names = &branch.pipe.variables;
            match names.as_slice() {
                [one] => self.set(one, item.clone(), branch.pipe.assigns),
                [first, second] => {
                    self.set(first, key, branch.pipe.assigns);
                    self.set(second, item.clone(), branch.pipe.assigns);
                }
                _ => {}
            }
            if self.list(&branch.body, &item)? == Flow::Break {
                break;
            }
        }
        self.variables.truncate(mark);
        Ok(())
    }

    fn call(&mut self, name: &str, pipe: Option<&Pipe>, position: usize, dot: &Value) -> Result_<()> {
        let place = Place { position, context: format!("{{{{template {name:?}}}}}") };
        let definitions = self.definitions;
        let Some((_, body)) = definitions.iter().rfind(|(defined, _)| defined == name) else {
            return self.fail(&place, format!("template {name:?} not defined"));
        };
        if self.calls >= MAXIMUM_CALLS {
            return self.fail(&place, "exceeded maximum template depth");
        }
        let argument = match pipe {
            Some(pipe) => self.pipe(pipe, dot)?,
            None => Value::Missing,
        };
        self.calls += 1;
        let outer = std::mem::replace(&mut self.variables, vec![("$".to_owned(), argument.clone())]);
        self.list(body, &argument)?;
        self.variables = outer;
        self.calls -= 1;
        Ok(())
    }

    fn set(&mut self, name: &str, value: Value, assigns: bool) {
        if assigns && let Some(slot) = self.variables.iter_mut().rfind(|(known, _)| known == name) {
            slot.1 = value;
            return;
        }
        self.variables.push((name.to_owned(), value));
    }

    fn pipe(&mut self, pipe: &Pipe, dot: &Value) -> Result_<Value> {
        let value = self.commands(pipe, dot)?;
        for name in &pipe.variables {
            self.set(name, value.clone(), pipe.assigns);
        }
        Ok(value)
    }

    fn commands(&mut self, pipe: &Pipe, dot: &Value) -> Result_<Value> {
        let mut last = None;
        for command in &pipe.commands {
            last = Some(self.command(command, dot, last)?);
        }
        Ok(last.unwrap_or(Value::Missing))
    }

    fn command(&mut self, command: &Command, dot: &Value, last: Option<Value>) -> Result_<Value> {
        let [first, rest @ ..] = command.arguments.as_slice() else { return Ok(Value::Missing) };
        let Operand::Function(name) = &first.operand else {
            if !rest.is_empty() || last.is_some() {
                let place = Place::argument(first);
                return self.fail(&place, format!("can't give argument to non-function {first}"));
            }
            return self.argument(first, dot);
        };
        // `and` and `or` stop at the first argument that decides
        if matches!(name.as_str(), "and" | "or") {
            return self.decide(name == "and", rest, dot, last, command);
        }
        let mut arguments = rest.iter().map(|argument| self.argument(argument, dot)).collect::<Result<Vec<_>, _>>()?;
        arguments.extend(last);
        for argument in &mut arguments {
            *argument = self.force(argument, &Place::command(command))?;
        }
        let result = functions::call(name, &arguments, self.style);
        result.or_else(|failure| match failure {
            functions::Failure::Arity(message) => self.fail(&Place::argument(first), message),
            functions::Failure::Call(message) => {
                self.fail(&Place::command(command), format!("error calling {name}: {message}"))
            }
        })
    }

    fn decide(
        &mut self,
        and: bool,
        rest: &[Argument],
        dot: &Value,
        last: Option<Value>,
        command: &Command,
    ) -> Result_<Value> {
        let mut value = None;
        for argument in rest {
            let next = self.argument(argument, dot)?;
            let decided = next.is_true() != and;
            value = Some(next);
            if decided {
                break;
            }
        }
        let undecided = value.as_ref().is_none_or(|value| value.is_true() == and);
        match (value, last) {
            (_, Some(last)) if undecided => Ok(last),
            (Some(value), _) => Ok(value),
            (None, _) => self.fail(&Place::command(command), "wrong number of args for and: want at least 1 got 0"),
        }
    }

    fn argument(&mut self, argument: &Argument, dot: &Value) -> Result_<Value> {
        let place = Place::argument(argument);
        match &argument.operand {
            Operand::Dot => Ok(dot.clone()),
            Operand::Nil => Ok(Value::Nil("interface {}")),
            Operand::Bool(value) => Ok(Value::Bool(*value)),
            Operand::Character(c, _) => Ok(Value::Int(i64::from(u32::from(*c)))),
            Operand::Text(text, _) => Ok(Value::Text(text.clone())),
            Operand::Number(source) => match functions::number(source) {
                Some(value) => Ok(value),
                None => self.fail(&place, format!("illegal number syntax: {source:?}")),
            },
            Operand::Function(name) => {
                functions::call(name, &[], self.style).or_else(|failure| self.fail(&place, failure.to_string()))
            }
            Operand::Field(path) => self.path(dot.clone(), path, &place),
            Operand::Variable(name, path) => {
                let found = self.variables.iter().rfind(|(known, _)| known == name).map(|(_, value)| value.clone());
                match found {
                    Some(value) => self.path(value, path, &place),
                    None => self.fail(&place, format!("undefined variable: {name}")),
                }
            }
            Operand::Parenthesis(pipe, path) => {
                let value = self.pipe(pipe, dot)?;
                self.path(value, path, &place)
            }
        }
    }

    fn path(&self, mut value: Value, path: &[String], place: &Place) -> Result_<Value> {
        for name in path {
            value = self.force(&value, place)?;
            value = self.field(&value, name, place)?;
        }
        self.force(&value, place)
    }

    fn force(&self, value: &Value, place: &Place) -> Result_<Value> {
        match value {
            Value::Lazy(thunk) => match Rc::clone(thunk)() {
                Ok(value) => Ok(value),
                Err(message) => self.fail(place, message),
            },
            other => Ok(other.clone()),
        }
    }

    fn field(&self, value: &Value, name: &str, place: &Place) -> Result_<Value> {
        match value {
            Value::Struct(structure) => match structure.field(name) {
                Some(value) => Ok(value.clone()),
                None => self.fail(place, format!("can't evaluate field {name} in type {}", structure.static_type)),
            },
            Value::Map(members) => Ok(members.get(name).cloned().unwrap_or(Value::Missing)),
            Value::Missing | Value::Nil("interface {}") => {
                self.fail(place, format!("nil data; no entry for key {name:?}"))
            }
            Value::Nil(pointee) => self.fail(place, format!("nil pointer evaluating *{pointee}.{name}")),
            other => self.fail(place, format!("can't evaluate field {name} in type {}", other.type_name())),
        }
    }
}
