"""A network step by step: sizes, weights, forward pass, loss, backpropagation, and training by hand with the gradients.

python examples/gradients.py
"""

import numpy as np

from fastmlp import MLP, ReferenceMLP


def main() -> None:
    print("1. Sizes: two inputs, three hidden units, one output.")
    net = MLP((2, 3, 1), ("tanh", "identity"), "squared_error", dtype="float64", random_state=0)
    for layer, (w, b) in enumerate(zip(net.w, net.b, strict=True)):
        print(f"   layer {layer}: w {w.shape}, b {b.shape}, {net.activation[layer]}")

    print("\n2. Weights are arrays: assign them, or change them in place.")
    net.w[0] = [[0.5, -0.3, 0.8], [0.2, 0.7, -0.6]]
    net.w[1] = [[0.4], [-0.9], [0.3]]
    net.b[0] += 0.1
    net.b[1][0, 0] = -0.2

    print("\n3. Forward pass of three samples, here and with the formula.")
    x = np.array([[1.0, 2.0], [-1.0, 0.5], [0.3, -0.8]])
    y = np.array([[1.0], [0.0], [-1.0]])
    by_formula = np.tanh(x @ net.w[0] + net.b[0]) @ net.w[1] + net.b[1]
    outputs = net.forward_pass(x)
    print(f"   network {outputs.ravel().round(6)}\n   formula {by_formula.ravel().round(6)}")
    print(f"   largest difference: {np.abs(outputs - by_formula).max():.1e}")

    print("\n4. Loss: the mean over samples of half the squared error.")
    print(f"   network {net.eval_loss(x, y):.6f}\n   formula {(0.5 * (by_formula - y) ** 2).sum(axis=1).mean():.6f}")

    print("\n5. Backpropagation, and one of its numbers by a difference quotient.")
    w_grad, b_grad = net.backprop(x, y)
    step = 1e-6
    net.w[0][0, 1] += step
    ahead = net.eval_loss(x, y)
    net.w[0][0, 1] -= 2 * step
    behind = net.eval_loss(x, y)
    net.w[0][0, 1] += step
    numerical = (ahead - behind) / (2 * step)
    print(f"   backprop            {w_grad[0][0, 1]:.9f}\n   difference quotient {numerical:.9f}")
    print(f"   difference: {abs(w_grad[0][0, 1] - numerical):.1e}")

    print("\n6. Training by hand, 20 steps at rate 0.1: w = w - rate * gradient.")
    twin = ReferenceMLP(net.sizes, net.activation, net.loss, dtype="float64")
    twin.w, twin.b = net.w, net.b
    for _ in range(20):
        w_grad, b_grad = net.backprop(x, y)
        for layer in range(len(net.w)):
            net.w[layer] -= 0.1 * w_grad[layer]
            net.b[layer] -= 0.1 * b_grad[layer]
    print(f"   loss {net.eval_loss(x, y):.9f}")

    print("\n7. The same with train_step, in plain NumPy: ReferenceMLP has the same interface.")
    for _ in range(20):
        twin.train_step(x, y, 0.1)
    print(f"   loss {twin.eval_loss(x, y):.9f}")
    print(f"   largest difference of all parameters: {np.abs(net.theta - twin.theta).max():.1e}")


if __name__ == "__main__":
    main()
