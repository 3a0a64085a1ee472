use reward_model::{rank_loss, tch::Tensor};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // The rewards that your model gave to the answers to one prompt, best answer first.
    let rewards = Tensor::from_slice(&[2.0, 1.0, 0.0]).set_requires_grad(true);

    let loss = rank_loss(&rewards)?;
    loss.f_backward()?;

    println!("loss {}", f64::try_from(&loss)?);
    println!("gradient {:?}", Vec::<f64>::try_from(rewards.f_grad()?)?);
    Ok(())
}
