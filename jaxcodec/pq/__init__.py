"""Product quantisation of network weights: a codebook and indices per layer instead of a kernel.

Stock, Joulin, Gribonval, Graham and Jégou, "And the Bit Goes Down: Revisiting the Quantization of Neural Networks",
ICLR 2020 (arXiv 1907.05686).

| file           | what it does                                                                                |
|----------------|---------------------------------------------------------------------------------------------|
| `layouts.py`   | cuts kernels into blocks, and puts them together again                                       |
| `activations.py` | the layers of a network in the order they run, and the Gram matrices of what enters them  |
| `kmeans.py`    | k-means that weighs errors by the activations                                                |
| `quantise.py`  | layer by layer, each on the activations of the layers already quantised                      |
| `finetune.py`  | training of the codebooks, by distillation or any loss; batch norm                           |
| `size.py`      | the paper's formula                                                                          |
| `artefact.py`  | the file; numpy only                                                                         |

Nothing is imported here, so that `artefact` can be read without jax.
"""
