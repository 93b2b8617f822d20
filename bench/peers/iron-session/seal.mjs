// Prints a cookie's value as `iron-session` makes it; the password comes in the environment.
import { sealData } from "iron-session";

const session = { name: "demo", userId: "4821906573310842112", roles: ["admin"] };
console.log(await sealData(session, { password: process.env.PASSWORD, ttl: 86_400 }));
