//! The values a template sees: Go's kinds, as far as they matter for printing and comparing.

use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;

use serde_json::Value as Json;

/// Computes a value when a template first asks for it.
pub type Thunk = Rc<dyn Fn() -> Result<Value, String>>;

/// A value of a template.
#[derive(Clone)]
pub enum Value {
    /// No value at all: a missing map key, printed as `<no value>`.
    Missing,
    /// A nil pointer to the named type, or with `interface {}` a nil interface.
    Nil(&'static str),
    /// A boolean.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A floating-point number.
    Float(f64),
    /// A string.
    Text(String),
    /// A slice.
    List(Rc<Vec<Value>>),
    /// A map with string keys.
    Map(Rc<BTreeMap<String, Value>>),
    /// A struct.
    Struct(Rc<Struct>),
    /// A method whose result is computed on demand.
    Lazy(Thunk),
}

/// A struct: named fields in order, and how it is written as JSON.
#[derive(Clone)]
pub struct Struct {
    /// Go's name of the type in error texts.
    pub type_name: &'static str,
    /// The name that an unknown field is reported against; differs from `type_name` behind an interface.
    pub static_type: &'static str,
    /// Fields in declaration order. Names of embedded structs' fields are listed too, with `printed` unset.
    pub fields: Vec<(&'static str, Value, bool)>,
    /// The JSON form.
    pub json: Json,
}

impl Struct {
    /// The field of that name.
    pub fn field(&self, name: &str) -> Option<&Value> {
        self.fields.iter().find(|(field, ..)| *field == name).map(|(_, value, _)| value)
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.printed())
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl Value {
    /// A map from pairs.
    pub fn map(pairs: impl IntoIterator<Item = (String, Value)>) -> Self {
        Self::Map(Rc::new(pairs.into_iter().collect()))
    }

    /// A list.
    pub fn list(items: impl IntoIterator<Item = Value>) -> Self {
        Self::List(Rc::new(items.into_iter().collect()))
    }

    /// The value as Go's `encoding/json` reads JSON into `any`.
    pub fn from_json(json: &Json) -> Self {
        match json {
            Json::Null => Self::Nil("interface {}"),
            Json::Bool(value) => Self::Bool(*value),
            Json::Number(number) => match number.as_i64() {
                Some(value) => Self::Int(value),
                None => Self::Float(number.as_f64().unwrap_or_default()),
            },
            Json::String(text) => Self::Text(text.clone()),
            Json::Array(items) => Self::list(items.iter().map(Self::from_json)),
            Json::Object(members) => {
                Self::map(members.iter().map(|(key, value)| (key.clone(), Self::from_json(value))))
            }
        }
    }

    /// The JSON form.
    pub fn to_json(&self) -> Result<Json, String> {
        Ok(match self {
            Self::Missing | Self::Nil(_) => Json::Null,
            Self::Bool(value) => Json::Bool(*value),
            Self::Int(value) => Json::from(*value),
            Self::Float(value) => Json::from(*value),
            Self::Text(text) => Json::String(text.clone()),
            Self::List(items) => Json::Array(items.iter().map(Self::to_json).collect::<Result<_, _>>()?),
            Self::Map(members) => {
                let mut object = serde_json::Map::new();
                for (key, value) in members.iter() {
                    object.insert(key.clone(), value.to_json()?);
                }
                Json::Object(object)
            }
            Self::Struct(structure) => structure.json.clone(),
            Self::Lazy(thunk) => thunk()?.to_json()?,
        })
    }

    /// Whether `if` takes it for true.
    pub fn is_true(&self) -> bool {
        match self {
            Self::Missing | Self::Nil(_) => false,
            Self::Bool(value) => *value,
            Self::Int(value) => *value != 0,
            Self::Float(value) => *value != 0.0,
            Self::Text(text) => !text.is_empty(),
            Self::List(items) => !items.is_empty(),
            Self::Map(members) => !members.is_empty(),
            Self::Struct(_) => true,
            Self::Lazy(thunk) => thunk().is_ok_and(|value| value.is_true()),
        }
    }

    /// Go's name for the type, as error texts have it.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Missing | Self::Nil("interface {}") => "interface {}",
            Self::Nil(name) => name,
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Float(_) => "float64",
            Self::Text(_) => "string",
            Self::List(_) => "[]interface {}",
            Self::Map(_) => "map[string]interface {}",
            Self::Struct(structure) => structure.type_name,
            Self::Lazy(_) => "func",
        }
    }

    /// As Go's `%v` prints it.
    pub fn printed(&self) -> String {
        match self {
            Self::Missing => "<no value>".to_owned(),
            Self::Nil("interface {}") => "<no value>".to_owned(),
            Self::Nil(_) => "<nil>".to_owned(),
            Self::Bool(value) => value.to_string(),
            Self::Int(value) => value.to_string(),
            Self::Float(value) => super::format::shortest(*value),
            Self::Text(text) => text.clone(),
            Self::List(items) => {
                let items: Vec<_> = items.iter().map(Self::printed_inside).collect();
                format!("[{}]", items.join(" "))
            }
            Self::Map(members) => {
                let members: Vec<_> =
                    members.iter().map(|(key, value)| format!("{key}:{}", value.printed_inside())).collect();
                format!("map[{}]", members.join(" "))
            }
            Self::Struct(structure) => {
                let printed = structure.fields.iter().filter(|(.., printed)| *printed);
                let fields: Vec<_> = printed.map(|(_, value, _)| value.printed_inside()).collect();
                format!("{{{}}}", fields.join(" "))
            }
            Self::Lazy(thunk) => match thunk() {
                Ok(value) => value.printed(),
                Err(message) => message,
            },
        }
    }

    /// Inside another value, every nil prints as `<nil>`.
    fn printed_inside(&self) -> String {
        match self {
            Self::Missing | Self::Nil(_) => "<nil>".to_owned(),
            value => value.printed(),
        }
    }
}
