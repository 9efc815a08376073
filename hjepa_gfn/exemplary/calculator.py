"""Safe arithmetic: numbers, + - * / // %, powers within bounds, brackets. Nothing is evaluated but that."""

import ast
import operator

from hjepa_gfn.errors import UserError

_BINARY = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod, ast.Pow: operator.pow,
}  # fmt: skip
_UNARY = {ast.UAdd: operator.pos, ast.USub: operator.neg}
MAX_LENGTH, MAX_EXPONENT, MAX_SIZE = 200, 16, 1e12


def calculate(expression: str) -> float:
    """The value of an arithmetic expression.

    Raises:
        UserError: anything but arithmetic, division by zero, or numbers out of bounds.
    """
    if len(expression) > MAX_LENGTH:
        raise UserError(f"cannot calculate: the expression is longer than {MAX_LENGTH} characters")
    try:
        return _value(ast.parse(expression.strip(), mode="eval").body)
    except ZeroDivisionError as error:
        raise UserError(f"cannot calculate {expression!r}: division by zero") from error
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise UserError(f"cannot calculate {expression!r}: not an arithmetic expression") from error


def _value(node: ast.AST) -> float:
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return _bounded(node.value)
    if isinstance(node, ast.UnaryOp) and type(node.op) in _UNARY:
        return _UNARY[type(node.op)](_value(node.operand))
    if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
        left, right = _value(node.left), _value(node.right)
        if isinstance(node.op, ast.Pow) and abs(right) > MAX_EXPONENT:
            raise ValueError("exponent")
        return _bounded(_BINARY[type(node.op)](left, right))
    raise ValueError("node")


def _bounded(value: float) -> float:
    if isinstance(value, complex) or not abs(value) <= MAX_SIZE:
        raise ValueError("size")
    return value
