//! Operators of libtorch that tch has no function for, called by their name.
//!
//! libtorch 2.10 and later export a C interface to their dispatcher that is meant to stay
//! (torch/csrc/stable/c/shim.h). Its functions are looked up in the libtorch of this process, so
//! that a program links with any libtorch, and finds out at run time what it has.

use std::ffi::{c_char, c_void, CStr};
use std::sync::OnceLock;

use libloading::os::unix::Library;
use tch::Tensor;

/// What the interface makes of an argument or result: 64 bits that hold a number, or a pointer.
type StackValue = u64;

type CallDispatcher =
    unsafe extern "C" fn(*const c_char, *const c_char, *mut StackValue, u64) -> i32;
type NewList = unsafe extern "C" fn(usize, *mut *mut c_void) -> i32;
type PushBack = unsafe extern "C" fn(*mut c_void, StackValue) -> i32;
type DeleteList = unsafe extern "C" fn(*mut c_void) -> i32;
type AbiVersion = unsafe extern "C" fn() -> u64;

/// The version of the interface that this file was written for, 2.11, as it is written there.
const WRITTEN_FOR: u64 = (2 << 56) | (11 << 48);

/// An argument of an operator.
pub(crate) enum Argument<'a> {
    Tensors(&'a [Tensor]),
    Tensor(&'a Tensor),
    Double(f64),
    Bool(bool),
    /// An optional argument that is not given.
    None,
}

/// The functions of the interface.
pub(crate) struct Dispatcher {
    call: CallDispatcher,
    new_list: NewList,
    push_back: PushBack,
    delete_list: DeleteList,
}

impl Dispatcher {
    /// The interface of the libtorch in this process, or why there is none.
    pub fn get() -> Result<&'static Dispatcher, String> {
        static FOUND: OnceLock<Result<Dispatcher, String>> = OnceLock::new();
        FOUND.get_or_init(Dispatcher::find).as_ref().map_err(String::clone)
    }

    fn find() -> Result<Dispatcher, String> {
        let process = Library::this();
        // SAFETY: each name is that of a function of this type in libtorch's shim.h, and libtorch
        // stays loaded for as long as the process lasts.
        unsafe {
            let version: AbiVersion = symbol(&process, c"aoti_torch_abi_version")?;
            let version = version();
            let (major, minor) = (version >> 56, version >> 48 & 0xff);
            if major != WRITTEN_FOR >> 56 || version < WRITTEN_FOR {
                return Err(format!(
                    "libtorch's C interface is {major}.{minor}, not 2.11 or later"
                ));
            }
            Ok(Dispatcher {
                call: symbol(&process, c"torch_call_dispatcher")?,
                new_list: symbol(&process, c"torch_new_list_reserve_size")?,
                push_back: symbol(&process, c"torch_list_push_back")?,
                delete_list: symbol(&process, c"torch_delete_list")?,
            })
        }
    }

    /// Calls an operator that returns nothing; `overload` is empty where it has one form.
    ///
    /// libtorch takes hold of the arguments before it runs the operator, and lets go of them
    /// whatever the operator does. One that does not exist, or has other parameters, would leave
    /// them behind: that is a mistake of the caller, who tries each operator once.
    pub fn call(
        &self,
        operator: &CStr,
        overload: &CStr,
        arguments: &[Argument],
    ) -> Result<(), String> {
        let (mut lists, mut tensors) = (Vec::new(), Vec::new());
        let mut stack = Vec::with_capacity(arguments.len());
        for argument in arguments {
            stack.push(match argument {
                Argument::Tensors(tensors) => {
                    let list = self.list(tensors)?;
                    let handle = list.handle as StackValue;
                    lists.push(list);
                    handle
                }
                Argument::Tensor(tensor) => {
                    let mut tensor = tensor.shallow_clone();
                    let handle = tensor.as_mut_ptr() as StackValue;
                    tensors.push(tensor);
                    handle
                }
                Argument::Double(number) => number.to_bits(),
                Argument::Bool(value) => StackValue::from(*value),
                Argument::None => 0,
            });
        }
        // From here on they are libtorch's.
        lists.into_iter().for_each(List::release);
        tensors.into_iter().for_each(std::mem::forget);
        // SAFETY: the names end with a zero, and the stack holds as many values as the operator has
        // parameters, or the call is refused.
        let status = unsafe {
            (self.call)(operator.as_ptr(), overload.as_ptr(), stack.as_mut_ptr(), WRITTEN_FOR)
        };
        if status == 0 {
            return Ok(());
        }
        Err(format!(
            "libtorch's operator {} failed; its message is on stderr",
            operator.to_string_lossy()
        ))
    }

    fn list(&self, tensors: &[Tensor]) -> Result<List<'_>, String> {
        let mut handle = std::ptr::null_mut();
        // SAFETY: writes a list to `handle`.
        if unsafe { (self.new_list)(tensors.len(), &mut handle) } != 0 {
            return Err("libtorch cannot make a list".into());
        }
        let mut list =
            List { dispatcher: self, handle, tensors: Vec::with_capacity(tensors.len()) };
        for tensor in tensors {
            let mut tensor = tensor.shallow_clone();
            let pointer = tensor.as_mut_ptr();
            list.tensors.push(tensor);
            // SAFETY: the list is alive; it keeps the pointer as a number.
            if unsafe { (self.push_back)(handle, pointer as StackValue) } != 0 {
                return Err("libtorch cannot add to a list".into());
            }
        }
        Ok(list)
    }
}

/// A list of tensors that libtorch has not taken yet: dropped, all of it is freed.
struct List<'a> {
    dispatcher: &'a Dispatcher,
    handle: *mut c_void,
    tensors: Vec<Tensor>,
}

impl List<'_> {
    /// Leaves list and tensors to libtorch.
    fn release(mut self) {
        self.tensors.drain(..).for_each(std::mem::forget);
        std::mem::forget(self);
    }
}

impl Drop for List<'_> {
    fn drop(&mut self) {
        // SAFETY: the list is ours alone; the tensors in it are numbers to it.
        unsafe { (self.dispatcher.delete_list)(self.handle) };
    }
}

/// # Safety
/// The symbol must be of type `T`, a function's.
unsafe fn symbol<T: Copy>(library: &Library, name: &CStr) -> Result<T, String> {
    // SAFETY: the caller's promise.
    unsafe { library.get::<T>(name.to_bytes_with_nul()) }
        .map(|symbol| *symbol)
        .map_err(|_| format!("this libtorch does not export {}", name.to_string_lossy()))
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;

    fn resident_kilobytes() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }

    #[test]
    fn tensors_are_let_go_of_whether_the_operator_succeeds_or_fails() {
        let dispatcher = Dispatcher::get().unwrap();
        let before = resident_kilobytes();
        for round in 0..48 {
            let tensors = || [Tensor::ones([1 << 22], (Kind::Float, Device::Cpu))];
            let (parameters, gradients, means, squares) =
                (tensors(), tensors(), tensors(), tensors());
            let steps = [Tensor::from(1.0f32)];
            // One list too short is refused by the operator itself.
            let gradients = &gradients[usize::from(round % 4 == 0)..];
            let mut arguments: Vec<Argument> =
                [&parameters[..], gradients, &means, &squares, &[], &steps]
                    .map(Argument::Tensors)
                    .into();
            arguments.extend([1e-3, 0.9, 0.999, 0.01, 1e-8].map(Argument::Double));
            arguments.extend([Argument::Bool(false), Argument::Bool(false)]);
            arguments.extend([Argument::None, Argument::None]);
            let result = dispatcher.call(c"aten::_fused_adamw_", c"", &arguments);
            assert_eq!(result.is_ok(), round % 4 != 0, "{result:?}");
        }
        // 64 MB a round make 3 GB, those refused 0.6; the allocator keeps some 200 MB of pages.
        let grown = resident_kilobytes().saturating_sub(before);
        assert!(grown < 400_000, "{grown} kB");
    }

    #[test]
    fn an_operator_that_does_not_exist_is_an_error() {
        let result = Dispatcher::get().unwrap().call(c"aten::no_such_operator", c"", &[]);
        assert!(result.unwrap_err().contains("no_such_operator"));
    }
}
